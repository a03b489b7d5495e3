/* SPDX-License-Identifier: MIT */
/*
 * What bench/payload.c compares: one trip there and back with so many bytes, in four modes, by sides that each have one
 * worker. An echo changes every byte, and the caller sums every byte of what comes back; with argument only, the worker
 * sums, and eight bytes come back. All sides use the same two loops, and all of them check the sum of each trip.
 */
#ifndef BENCH_PAYLOAD_H
#define BENCH_PAYLOAD_H

#include "bench.h"

enum payload_mode {
	PAYLOAD_ECHO_PLACE, PAYLOAD_ARGUMENT_PLACE, PAYLOAD_ECHO_COPY, PAYLOAD_ARGUMENT_COPY, PAYLOAD_MODES
};

/* Sizes are multiples of 1 KiB. flip makes to[i] = 255 - from[i]; the two may be the same. */
void     payload_flip(void *to, const void *from, size_t size);
uint64_t payload_sum(const void *data, size_t size);
bool     payload_copies(enum payload_mode mode);
bool     payload_echoes(enum payload_mode mode);
/* Ends the program if what came back has another sum than it should, after a trip with bytes of the sum before. */
void     payload_check(const char *side, enum payload_mode mode, size_t size, uint64_t before, uint64_t got);
void    *payload_fill(size_t size);              /* private memory with something in it; never given back */

struct payload_side {
	const char *name;
	/* What the caller has: size bytes at source, whose sum is known. NULL: not to be had. */
	void   *(*open)(const char *name, const void *source, size_t size, int cpu);
	int64_t (*run)(void *context, enum payload_mode mode, long trips);      /* nanoseconds for all */
	void    (*close)(void *context);
	unsigned modes;                          /* a bit for each that there is */
};
extern const struct payload_side payload_ours, payload_reference, payload_pipe, payload_fork;

#endif
