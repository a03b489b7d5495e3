/* SPDX-License-Identifier: MIT */
/*
 * The shared-memory object of an executor: how it is made, where its areas are, how it grows. It never has a name that
 * another process could open, and its file descriptor is closed once the supervisor has mapped it.
 */
#ifndef PP_LIB_SEGMENT_H
#define PP_LIB_SEGMENT_H

#include <stdbool.h>
#include <stddef.h>
#include "layout.h"

enum pp__backing {
	PP__BACKING_TMPFILE = 1u << 0,   /* O_TMPFILE on /dev/shm: no name exists at any instant */
	PP__BACKING_MEMFD   = 1u << 1,
	PP__BACKING_NAMED   = 1u << 2    /* shm_open under an unguessable name, unlinked at once */
};

struct pp__segment {
	struct pp__shared shared;
	size_t            size;
	int               fd;            /* -1 once closed */
	bool              needs_fd;      /* memory can only be reserved through it (Linux before 5.14): it stays open */
	uint64_t          dev, ino;      /* to tell the fd from a file of the application that has its number now */
	enum pp__backing  backing;
	uint64_t          warm_max;      /* so much freed memory may be kept for the next use */
};

/* Tries the backings in the set, in the order of their values. 0; -ENOMEM -ENOSPC -EFBIG -EMFILE -ENFILE. */
int  pp__segment_create(struct pp__segment *segment, unsigned backings, uint32_t max_workers);
void pp__segment_destroy(struct pp__segment *segment);
void pp__segment_close_fd(struct pp__segment *segment);

/* In a child, where the mapping is not: says so to whoever keeps books of mappings (valgrind would look for leaks in it). */
void pp__segment_forget(const struct pp__segment *segment);
/* In a child that is not of this executor: the same, and closes the descriptor where the parent keeps one. */
void pp__segment_disown(struct pp__segment *segment);

/* Maps the object of fd where the parent has it: for the supervisor, whose fork does not have the mapping. */
int  pp__segment_map_again(const struct pp__segment *segment);
/* Makes what the parent alone writes read-only in this process, and hides all of it from children of this process. */
int  pp__segment_restrict(const struct pp__shared *shared);

/* In a worker where areas are read-only, called before memory is given to a range or taken from it; else NULL. */
extern void (*pp__memory_opener)(void *address, size_t size);

/* Gives the range memory, so that touching it cannot fail. 0; -ENOSPC -ENOMEM. May be called again for what has some. */
int  pp__memory_commit(const struct pp__segment *segment, uint64_t offset, uint64_t size);
int  pp__memory_commit_at(void *address, size_t size);   /* the same without a descriptor, for workers */
/* Gives memory back to the kernel; the range reads as zero. */
void pp__memory_discard(const struct pp__shared *shared, uint64_t offset, uint64_t size);

#endif
