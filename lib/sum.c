/* SPDX-License-Identifier: MIT */
/*
 * See sum.h. The header of xxHash is all that is needed: its code becomes part of this file, and no process of a pool
 * has one mapping more. Half of the 64 bits would do, but xored they are no worse.
 */
#include "sum.h"

#ifdef HAVE_XXHASH
# define XXH_INLINE_ALL
# include <xxhash.h>

bool pp__sum_is_known(void) { return true; }

uint32_t pp__sum(const void *bytes, uint64_t size)
{
	uint64_t sum = size ? XXH3_64bits(bytes, size) : 0;

	return (uint32_t)(sum ^ sum >> 32);
}
#else
bool pp__sum_is_known(void) { return false; }

uint32_t pp__sum(const void *bytes, uint64_t size)
{
	(void)bytes;
	(void)size;
	return 0;
}
#endif
