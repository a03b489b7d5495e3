/* SPDX-License-Identifier: MIT */
/*
 * L1 to L3: one task at a time, from submit to its result, beside a bare ping-pong over two process-shared semaphores in
 * the same layout. Idle: both sides have slept for a while before each trip. Back to back: the next follows at once.
 * Rounds of the two take turns; a round's figure is the median of its trips.
 */
#include <stdio.h>
#include "bench.h"

#define IDLE_TRIPS   100
#define IDLE_GAP_NS  1000000
#define TRIPS        20000
#define TRIPS_ONE_CPU 2000               /* each is two switches of process */

struct pair {
	pp_executor       *executor;
	struct bench_bare *bare;
};

static double trip(const struct pair *pair, bool bare)
{
	int64_t start = bench_now();

	if (bare)
		bench_bare_round_trip(pair->bare);
	else
		bench_round_trip(pair->executor, bench_empty_task);
	return (double)(bench_now() - start) / 1e3;
}

static double round_of(const struct pair *pair, bool bare, int trips, int64_t gap, double percent)
{
	struct bench_samples s = { .n = 0 };
	double result;

	for (int i = 0; i < trips; i++) {
		if (gap)
			bench_sleep(gap);
		bench_add(&s, trip(pair, bare));
	}
	result = bench_percentile(&s, percent);
	bench_clear(&s);
	return result;
}

/* What the hardware allows where L2 is measured: two words, looked at all the time. The partner is there for one round
 * only: it would take the CPU from the others. */
static double spinning_round(void)
{
	struct pair pair = { NULL, bench_bare_start(1, true) };
	double median = round_of(&pair, true, TRIPS, 0, 50);

	bench_bare_stop(pair.bare);
	return median;
}

static void judge(enum bench_layout layout, bool idle, struct bench_samples *ours, struct bench_samples *ratios,
                  struct bench_samples *limit)
{
	char part[96];

	if (idle) {
		bench_bar("L1", bench_layout_names[layout], bench_median(ratios), false,
		          layout == BENCH_TWO_CPUS ? 1.2 : 1.25, "times");
	} else if (layout == BENCH_TWO_CPUS) {
		snprintf(part, sizeof part, "p50, where two bare spinning words need %.3g us", bench_median(limit));
		bench_bar("L2", part, bench_median(ours), false, 0.6, "us");
	} else {
		bench_bar("L3", bench_layout_names[layout], bench_median(ratios), false, 1.3, "times");
	}
}

static void compare(const struct pair *pair, enum bench_layout layout, const char *kind, int trips, int64_t gap)
{
	struct bench_samples ours = { .n = 0 }, bare = { .n = 0 }, ratios = { .n = 0 }, late = { .n = 0 },
	                     limit = { .n = 0 };
	bool spins = !gap && layout == BENCH_TWO_CPUS;
	int rounds = bench_rounds(11);
	char metric[96];

	for (int i = 0; i < rounds; i++) {
		bench_add(&ours, round_of(pair, false, trips, gap, 50));
		bench_add(&bare, round_of(pair, true, trips, gap, 50));
		bench_add(&ratios, ours.v[ours.n - 1] / bare.v[bare.n - 1]);
		bench_add(&late, round_of(pair, false, trips, gap, 99));
		if (spins)
			bench_add(&limit, spinning_round());
	}
	snprintf(metric, sizeof metric, "round trip, %s, %s, p50", kind, bench_layout_names[layout]);
	bench_line("procpool", metric, "us", &ours);
	bench_line("bare sem_t", metric, "us", &bare);
	if (spins)
		bench_line("bare spinning", metric, "us", &limit);
	snprintf(metric, sizeof metric, "round trip, %s, %s, p50 against bare sem_t", kind, bench_layout_names[layout]);
	bench_line("procpool", metric, "times", &ratios);
	snprintf(metric, sizeof metric, "round trip, %s, %s, p99", kind, bench_layout_names[layout]);
	bench_line("procpool", metric, "us", &late);
	judge(layout, gap != 0, &ours, &ratios, &limit);
}

int main(void)
{
	for (int layout = 0; layout < BENCH_LAYOUTS; layout++) {
		int cpu = bench_partner_cpu((enum bench_layout)layout);
		struct pair pair;
		if (!bench_has((enum bench_layout)layout)) {
			bench_bar_absent("L1", bench_layout_names[layout], "one CPU only");
			bench_bar_absent("L2", "p50", "one CPU only");
			continue;
		}
		pair.executor = bench_executor_on(cpu, 1);
		pair.bare = bench_bare_start(cpu, false);
		round_of(&pair, false, TRIPS_ONE_CPU, 0, 50);
		round_of(&pair, true, TRIPS_ONE_CPU, 0, 50);
		compare(&pair, (enum bench_layout)layout, "idle", IDLE_TRIPS, IDLE_GAP_NS);
		compare(&pair, (enum bench_layout)layout, "back to back",
		        layout == BENCH_TWO_CPUS ? TRIPS : TRIPS_ONE_CPU, 0);
		pp_executor_free(pair.executor);
		bench_bare_stop(pair.bare);
	}
	return 0;
}
