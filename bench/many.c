/* SPDX-License-Identifier: MIT */
/*
 * W1: waiting for many. All futures are submitted while the only worker is in a gate, a task that looks at a word of
 * shared memory until that is set, so that none is done at the start and no wake-up is in the figure. Then the gate
 * is opened, and the time is taken from the call of pp_as_completed, or pp_wait, to the last future: the tasks run
 * meanwhile. Slots are warm; each kind and size takes turns with the others; many waits for 1 k make a round.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include "bench.h"

#define MANY 1000000L
#define FEW  1000L

static _Atomic uint32_t *opened;                 /* shared with the workers, which inherit it */
static uint32_t rounds_begun;

static int gate(pp_task *task, const void *data, size_t size)
{
	uint32_t round = *(const uint32_t *)data;

	(void)task;
	while (atomic_load(opened) < round)
		;
	return size != sizeof round;
}

static void submit(pp_executor *executor, pp_fn *fn, const void *data, size_t size, pp_future **future)
{
	int rc = pp_submit(executor, fn, data, size, future);

	if (rc < 0)
		bench_die("pp_submit: %s", pp_strerror(rc));
}

static void check_and_free(pp_future *future)
{
	const pp_outcome *outcome;

	if (pp_future_result(future, 0, &outcome) < 0 || outcome->kind != PP_RETURNED || outcome->size != 0)
		bench_die("a wrong result");
	pp_future_free(future);
}

/* Nanoseconds of the wait alone. */
static int64_t walk_all(pp_future **futures, long n)
{
	int64_t start = bench_now(), took;
	pp_future *future;
	pp_walk *walk;
	long seen = 0;

	if (pp_as_completed(futures, (size_t)n, PP_FOREVER, &walk) < 0)
		bench_die("pp_as_completed");
	atomic_store(opened, rounds_begun);
	while (pp_walk_next(walk, &future) == 1)
		seen++;
	took = bench_now() - start;
	pp_walk_free(walk);
	if (seen != n)
		bench_die("%ld of %ld futures were walked over", seen, n);
	return took;
}

static int64_t wait_all(pp_future **futures, long n)
{
	int64_t start = bench_now();

	atomic_store(opened, rounds_begun);
	if (pp_wait(futures, (size_t)n, PP_ALL_COMPLETED, PP_FOREVER) != n)
		bench_die("pp_wait");
	return bench_now() - start;
}

/* Nanoseconds per future. */
static double one_wait(pp_executor *executor, pp_future **futures, long n, bool walk)
{
	pp_future *first;
	int64_t took;

	rounds_begun++;
	submit(executor, gate, &rounds_begun, sizeof rounds_begun, &first);
	for (long i = 0; i < n; i++)
		submit(executor, bench_empty_task, NULL, 0, futures + i);
	took = walk ? walk_all(futures, n) : wait_all(futures, n);
	check_and_free(first);
	for (long i = 0; i < n; i++)
		check_and_free(futures[i]);
	return (double)took / (double)n;
}

static double few(pp_executor *executor, pp_future **futures, bool walk)
{
	struct bench_samples s = { .n = 0 };
	double median;

	for (int i = 0; i < 50; i++)
		bench_add(&s, one_wait(executor, futures, FEW, walk));
	median = bench_median(&s);
	bench_clear(&s);
	return median;
}

static void report(bool walk, struct bench_samples *few_ns, struct bench_samples *many_ns, struct bench_samples *ratios)
{
	const char *name = walk ? "as_completed" : "wait";
	char text[96];

	snprintf(text, sizeof text, "%s, 1 k futures, none done", name);
	bench_line("procpool", text, "ns/future", few_ns);
	snprintf(text, sizeof text, "%s, 1 M futures, none done", name);
	bench_line("procpool", text, "ns/future", many_ns);
	bench_bar("W1", text, bench_median(many_ns), false, 150, "ns");
	snprintf(text, sizeof text, "%s, 1 M against 1 k", name);
	bench_line("procpool", text, "times", ratios);
	bench_bar("W1", text, bench_median(ratios), false, 2, "times");
}

int main(void)
{
	struct bench_samples few_ns[2] = { { .n = 0 } }, many_ns[2] = { { .n = 0 } }, ratios[2] = { { .n = 0 } };
	pp_future **futures = malloc(MANY * sizeof *futures);
	pp_executor *executor;
	int rounds = bench_rounds(5);

	opened = mmap(NULL, sizeof *opened, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (!futures || opened == MAP_FAILED)
		bench_die("no memory");
	executor = bench_executor(1, 0);
	one_wait(executor, futures, MANY, true);         /* warms the slots up */
	for (int i = 0; i < rounds; i++)
		for (int walk = 0; walk < 2; walk++) {
			bench_add(&few_ns[walk], few(executor, futures, walk));
			bench_add(&many_ns[walk], one_wait(executor, futures, MANY, walk));
			bench_add(&ratios[walk], many_ns[walk].v[i] / few_ns[walk].v[i]);
		}
	for (int walk = 0; walk < 2; walk++)
		report(walk, &few_ns[walk], &many_ns[walk], &ratios[walk]);
	pp_executor_free(executor);
	free(futures);
	return 0;
}
