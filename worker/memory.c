/* SPDX-License-Identifier: MIT */
/* The line of statm: size, resident, shared and more, in pages. */
#include "memory.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

bool pp__memory_now(pid_t pid, struct pp__memory *memory)
{
	uint64_t page = (uint64_t)sysconf(_SC_PAGESIZE), pages[3];
	char path[32] = "/proc/self/statm", text[128], *at = text, *end;
	ssize_t n;
	int fd;

	if (pid)
		snprintf(path, sizeof path, "/proc/%d/statm", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, text, sizeof text - 1);
	close(fd);
	text[n > 0 ? n : 0] = 0;
	for (int i = 0; i < 3; i++, at = end) {
		pages[i] = strtoull(at, &end, 10);
		if (end == at)
			return false;
	}
	memory->virtual = pages[0] * page;
	memory->resident = pages[1] > pages[2] ? (pages[1] - pages[2]) * page : 0;
	return true;
}
