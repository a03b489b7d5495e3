/* SPDX-License-Identifier: MIT */
/* Where the counter is: version 2 of control groups has one hierarchy and memory.events, version 1 memory.oom_control. */
#include "oom.h"
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* 0 where there is no such line; it is there from the start where the kernel counts. */
static bool read_count(const char *path, uint64_t *count)
{
	FILE *file = fopen(path, "re");
	char line[256];
	bool found = false;

	while (file && !found && fgets(line, sizeof line, file))
		if (strncmp(line, "oom_kill ", 9) == 0) {
			*count = strtoull(line + 9, NULL, 10);
			found = true;
		}
	if (file)
		fclose(file);
	return found;
}

/* Our path in the hierarchy that has memory; in it is a line "0::path", or "N:controllers:path". */
static bool own_group(bool second, char *group, size_t size)
{
	FILE *file = fopen("/proc/self/cgroup", "re");
	char line[512], *controllers, *path;
	bool found = false;

	while (file && !found && fgets(line, sizeof line, file)) {
		controllers = strchr(line, ':');
		path = controllers ? strchr(controllers + 1, ':') : NULL;
		if (!path)
			continue;
		*path++ = 0;
		path[strcspn(path, "\n")] = 0;
		found = second ? controllers[1] == 0 : strstr(controllers, "memory") != NULL;
		if (found)
			snprintf(group, size, "%s", strcmp(path, "/") ? path : "");
	}
	if (file)
		fclose(file);
	return found;
}

/* The mount of that hierarchy. mountinfo: ... root point options - type source options */
static bool mount_point(bool second, char *point, size_t size)
{
	FILE *file = fopen("/proc/self/mountinfo", "re");
	char line[1024], type[32], all[256], where[512];
	bool found = false;

	while (file && !found && fgets(line, sizeof line, file)) {
		const char *tail = strstr(line, " - ");
		if (!tail || sscanf(tail, " - %31s %*s %255s", type, all) != 2
		    || sscanf(line, "%*s %*s %*s %*s %511s", where) != 1)
			continue;
		found = second ? strcmp(type, "cgroup2") == 0 : strcmp(type, "cgroup") == 0 && strstr(all, "memory");
		if (found)
			snprintf(point, size, "%s", where);
	}
	if (file)
		fclose(file);
	return found;
}

/* In a container the path may be one of outside: then the mount itself is our group. */
static bool find_group(struct pp__oom *oom, bool second)
{
	const char *name = second ? "memory.events" : "memory.oom_control";
	char point[512], group[512];

	if (!own_group(second, group, sizeof group) || !mount_point(second, point, sizeof point))
		return false;
	if (snprintf(oom->path, sizeof oom->path, "%s%s/%s", point, group, name) < (int)sizeof oom->path
	    && read_count(oom->path, &oom->counted))
		return true;
	return snprintf(oom->path, sizeof oom->path, "%s/%s", point, name) < (int)sizeof oom->path
	       && read_count(oom->path, &oom->counted);
}

void pp__oom_begin(struct pp__oom *oom)
{
	*oom = (struct pp__oom){ .ours = true };
	if (find_group(oom, true) || find_group(oom, false))
		return;
	*oom = (struct pp__oom){ .path = "/proc/vmstat" };
	if (!read_count(oom->path, &oom->counted))
		oom->path[0] = 0;
}

uint64_t pp__oom_more(const struct pp__oom *oom)
{
	uint64_t count = 0;

	if (!oom->path[0] || !read_count(oom->path, &count) || count < oom->counted)
		return 0;
	return count - oom->counted;
}
