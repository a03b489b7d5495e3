/* SPDX-License-Identifier: MIT */
/* What stands in the words of units, and in the notes of runs of them. */
#ifndef PP_LIB_UNIT_WORDS_H
#define PP_LIB_UNIT_WORDS_H

#include "slot.h"
#include "units.h"

#define PP__UNIT_USED UINT64_C(1)
#define PP__UNIT_WARM UINT64_C(2)                /* it has memory */
#define PP__CLAIM_BIG (UINT64_C(1) << 63)

static inline uint64_t pp__claim_make(bool big, uint32_t first, uint32_t count)
{
	return (big ? PP__CLAIM_BIG : 0) | (uint64_t)count << 32 | first;
}

static inline bool pp__claim_is_big(uint64_t claim) { return claim & PP__CLAIM_BIG; }
static inline uint32_t pp__claim_first(uint64_t claim) { return (uint32_t)claim; }
static inline uint32_t pp__claim_count(uint64_t claim) { return (uint32_t)(claim >> 32) & 0x7fffffffu; }

static inline uint64_t pp__unit_name(uint32_t slot, uint32_t generation)
{
	return PP__UNIT_USED | (uint64_t)slot << 2 | (uint64_t)(generation & PP__GENERATION_MASK) << 34;
}

static inline _Atomic uint64_t *pp__unit_words(const struct pp__shared *shared, bool big)
{
	return shared->units + (big ? shared->header->small_count : 0);
}

static inline uint64_t pp__unit_size(bool big) { return big ? PP__BIG_UNIT : PP__SMALL_UNIT; }

/* How many units, from the first on, were ever used. */
uint32_t pp__units_used(const struct pp__shared *shared, bool big);
bool     pp__claim_is_in_bounds(const struct pp__shared *shared, uint64_t claim);

#endif
