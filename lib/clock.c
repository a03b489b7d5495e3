/* SPDX-License-Identifier: MIT */
/* How many nanoseconds a tick of the processor's counter is, is learnt from one look at the clock to the next. */
#include "clock.h"
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>
#include "sysdep.h"

#define CLOSE_TICKS  UINT64_C(4000)          /* around a look: a microsecond or two */
#define SPAN_NS      INT64_C(1000000)
#define SHORTEST_NS  INT64_C(200000)         /* from which a rate can be had: a look is off by some 30 ns */
#define LONGEST_NS   INT64_C(10000000000)    /* the rate may have been another meanwhile; and nothing overflows */

enum { UNKNOWN, COUNTER, CLOCK_ONLY };
static _Atomic int source;

/* The kernel has made sure that the counter runs evenly, and alike on all processors, or else uses something other. */
void pp__clock_init(void)
{
	char text[8] = "";
	int fd;

	if (atomic_load(&source) != UNKNOWN)
		return;
	fd = pp__clock_ticks() ? open("/sys/devices/system/clocksource/clocksource0/current_clocksource", O_RDONLY | O_CLOEXEC) : -1;
	if (fd >= 0) {
		if (read(fd, text, sizeof text - 1) < 0)
			*text = 0;
		close(fd);
	}
	atomic_store(&source, strcmp(text, "tsc\n") == 0 ? COUNTER : CLOCK_ONLY);
}

/* The rate from the look before, if that was neither too close nor too long ago. */
static void learn(struct pp__clock *clock, uint64_t ticks, int64_t ns)
{
	int64_t passed_ns = ns - clock->ns;

	clock->span = 0;
	if (clock->ns && passed_ns < SHORTEST_NS)
		return;                  /* the look before stays the one to measure from */
	if (clock->ns && passed_ns < LONGEST_NS && ticks != clock->ticks) {
		clock->scale = ((uint64_t)passed_ns << 24) / (ticks - clock->ticks) << 8;
		clock->span = clock->scale ? ((uint64_t)SPAN_NS << 32) / clock->scale : 0;
	}
	clock->ticks = ticks;
	clock->ns = ns;
}

int64_t pp__clock_look(struct pp__clock *clock)
{
	uint64_t before, after;
	int64_t now, reached = clock->ns + (int64_t)(clock->span * clock->scale >> 32);

	if (atomic_load_explicit(&source, memory_order_relaxed) != COUNTER)
		return pp__now_ns();
	before = pp__clock_ticks();
	now = pp__now_ns();
	after = pp__clock_ticks();
	if (now < reached && reached - now < SPAN_NS)
		now = reached;           /* the last stamp may have been a little ahead of the clock */
	if (after - before < CLOSE_TICKS)
		learn(clock, after, now);
	else
		clock->span = 0;         /* something came in between */
	return now;
}
