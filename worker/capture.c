/* SPDX-License-Identifier: MIT */
/*
 * The file is a memfd that is appended to: its writers are the worker and whatever it forks. Its number is known to the
 * worker's task too, who may close it and open another file in its place, so it is held against what it was before it
 * is cut.
 */
#include "capture.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "supervisor.h"
#include "worker.h"

#define MOST_BYTES (1024u * 1024u)       /* with memory, before the next trim */

int pp__capture_make(struct pp__supervisor *s, uint32_t entry)
{
	struct pp__child *child = &s->children[entry];
	int fd;

	if (!s->boot.options.capture_bytes)
		return 0;
	fd = memfd_create("procpool-output", MFD_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fcntl(fd, F_SETFL, O_APPEND) < 0) {
		close(fd);
		return -EAGAIN;
	}
	child->capture = fd + 1;
	return 0;
}

void pp__capture_drop(struct pp__supervisor *s, uint32_t entry)
{
	if (s->children[entry].capture)
		close(s->children[entry].capture - 1);
	s->children[entry].capture = 0;
}

void pp__capture_trim(const struct pp__supervisor *s, uint32_t entry)
{
	int fd = s->children[entry].capture - 1;
	struct stat st;
	off_t cut;

	if (fd < 0 || fstat(fd, &st) < 0 || (uint64_t)st.st_blocks * 512 <= MOST_BYTES)
		return;
	cut = (st.st_size - (off_t)PP__OUTPUT_MAX) & ~(off_t)(PP__PAGE - 1);
	if (cut > 0)
		fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, cut);
}

uint32_t pp__capture_read(const struct pp__supervisor *s, uint32_t entry, unsigned char *to, uint32_t most)
{
	int fd = s->children[entry].capture - 1;
	uint64_t size = s->boot.options.capture_bytes;
	struct stat st;
	ssize_t n;

	if (fd < 0 || fstat(fd, &st) < 0)
		return 0;
	if ((uint64_t)st.st_size < size)
		size = (uint64_t)st.st_size;
	if (size > most)
		size = most;
	if (!to)
		return (uint32_t)size;
	n = pread(fd, to, size, st.st_size - (off_t)size);
	return n > 0 ? (uint32_t)n : 0;
}

static void close_others(const struct pp__supervisor *s, uint32_t entry)
{
	for (uint32_t i = 0; i < s->shared->header->entries; i++)
		if (i != entry && s->children[i].capture)
			close(s->children[i].capture - 1);
}

int pp__capture_enter(struct pp__self *self, struct pp__supervisor *s)
{
	int fd = s->children[self->entry].capture - 1;

	self->capture.fd = -1;
	if (fd < 0)
		return 0;
	close_others(s, self->entry);
	if (dup2(fd, STDOUT_FILENO) < 0 || dup2(fd, STDERR_FILENO) < 0)
		return -EMFILE;
	self->capture = pp__pass_note(fd);
	setvbuf(stdout, NULL, _IOLBF, 0);        /* a line that was printed before the crash is there */
	return 0;
}

void pp__capture_begin(const struct pp__self *self)
{
	struct stat st;

	if (fstat(self->capture.fd, &st) < 0 || st.st_dev != self->capture.dev || st.st_ino != self->capture.ino)
		return;
	if (st.st_size && ftruncate(self->capture.fd, 0) < 0)
		return;                  /* then what it prints comes behind what was printed before */
}
