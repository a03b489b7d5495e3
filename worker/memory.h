/* SPDX-License-Identifier: MIT */
/*
 * How much memory a process has, from /proc/PID/statm: one open, read and close, some two microseconds. No descriptor is
 * kept, because a task can close it, or put another file in its place.
 */
#ifndef PP_WORKER_MEMORY_H
#define PP_WORKER_MEMORY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct pp__memory {
	uint64_t virtual;                /* bytes of address space */
	uint64_t resident;               /* bytes that are the process's own: of no file, and not shared memory */
};

/* pid 0: of this process. false: it has none any more, or there is no /proc. */
bool pp__memory_now(pid_t pid, struct pp__memory *memory);

/* As options give it: PP_NONE is none. */
static inline uint64_t pp__limit_bytes(int64_t option) { return option < 0 ? 0 : (uint64_t)option; }

#endif
