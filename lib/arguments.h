/* SPDX-License-Identifier: MIT */
/*
 * Room for arguments and blocks: one of these for the area that only the parent writes, one for that of mutable blocks.
 * The books are private memory: a worker can neither damage them nor hold anything here. Under the executor's submit lock.
 */
#ifndef PP_LIB_ARGUMENTS_H
#define PP_LIB_ARGUMENTS_H

#include <stdint.h>
#include "segment.h"

#define PP__ARG_CLASSES 40       /* 2^7 to 2^46 bytes */

struct pp__arguments {
	uint64_t next, end;              /* never used so far */
	struct { uint64_t *offsets; uint32_t count, room; } free[PP__ARG_CLASSES];
	uint64_t warm;                   /* bytes with memory in free places above 1 MiB */
};

void pp__arguments_init(struct pp__arguments *arguments, uint64_t begin, uint64_t end);
void pp__arguments_destroy(struct pp__arguments *arguments);
/* An offset aligned to 64 bytes, with memory; or -ENOMEM, -ENOSPC. */
int64_t pp__arguments_take(struct pp__arguments *arguments, const struct pp__segment *segment, uint64_t size);
void pp__arguments_give(struct pp__arguments *arguments, const struct pp__segment *segment, uint64_t offset, uint64_t size);

#endif
