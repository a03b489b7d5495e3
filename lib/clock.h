/* SPDX-License-Identifier: MIT */
/*
 * CLOCK_MONOTONIC for time stamps that every task takes. Where the kernel itself keeps time by the processor's counter, the
 * counter is read instead, and placed between two looks at the clock, which are at most a millisecond apart: that costs 10 ns
 * instead of 23. What the clock says is never left by more than the time since the last look; stamps of one struct never go back.
 */
#ifndef PP_LIB_CLOCK_H
#define PP_LIB_CLOCK_H

#include <stdint.h>

/* One reader at a time. All zero: not looked at yet. */
struct pp__clock {
	uint64_t ticks;          /* at the last look, */
	int64_t  ns;             /* and the time then */
	uint64_t span;           /* ticks after it that need no other; 0: each read is a look */
	uint64_t scale;          /* nanoseconds per tick, times 2^32 */
};

/* Finds out whether the counter may be used; before the first read, also of children. */
void    pp__clock_init(void);
int64_t pp__clock_look(struct pp__clock *clock);

static inline uint64_t pp__clock_ticks(void)
{
#if defined __x86_64__
	return __builtin_ia32_rdtsc();
#else
	return 0;
#endif
}

static inline int64_t pp__clock_read(struct pp__clock *clock)
{
	uint64_t passed = clock->span ? pp__clock_ticks() - clock->ticks : 0;

	if (passed < clock->span)
		return clock->ns + (int64_t)(passed * clock->scale >> 32);
	return pp__clock_look(clock);
}

#endif
