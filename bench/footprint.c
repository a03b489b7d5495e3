/* SPDX-License-Identifier: MIT */
/*
 * M1, M2, I1: what a pool has while it does nothing. M1: how much memory, shared and private, 1 M pending empty
 * futures take (the caller's own array of them is not counted). M2: the private memory of idle workers that have run
 * tasks. I1: the CPU time that an idle pool of 8 workers uses in 10 s, the caller's, the supervisor's and the
 * workers' in one.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "proc.h"

#define PENDING   1000000L
#define TASKS     20000L
#define IDLE_S    10
#define SETTLE_NS INT64_C(2000000000)    /* the supervisor looks around for a second after the last task */

static int gate_fds[2];

static int gate(pp_task *task, const void *data, size_t size)
{
	char byte;

	(void)task;
	(void)data;
	(void)size;
	return read(gate_fds[0], &byte, 1) != 1;
}

static int64_t all_memory(void)
{
	int64_t shared, private = proc_memory(getpid(), &shared);

	return private + shared;
}

static void check(pp_future *future)
{
	const pp_outcome *outcome;

	if (pp_future_result(future, PP_FOREVER, &outcome) < 0 || outcome->kind != PP_RETURNED || outcome->size != 0)
		bench_die("a wrong result");
	pp_future_free(future);
}

static void submit(pp_executor *executor, pp_fn *fn, pp_future **future)
{
	int rc = pp_submit(executor, fn, NULL, 0, future);

	if (rc < 0)
		bench_die("pp_submit: %s", pp_strerror(rc));
}

static void pending(void)
{
	pp_future **futures = malloc(PENDING * sizeof *futures), *first;
	struct bench_samples bytes = { .n = 0 };
	pp_executor *executor;
	int64_t before;

	if (!futures || pipe(gate_fds) < 0)
		bench_die("no memory or no pipe");
	memset(futures, 0xff, PENDING * sizeof *futures);        /* all of it is there now */
	executor = bench_executor(1, 0);
	submit(executor, gate, &first);
	before = all_memory();
	for (long i = 0; i < PENDING; i++)
		submit(executor, bench_empty_task, futures + i);
	bench_add(&bytes, (double)(all_memory() - before) / PENDING);
	if (write(gate_fds[1], "", 1) != 1)
		bench_die("the gate could not be opened");
	check(first);
	for (long i = 0; i < PENDING; i++)
		check(futures[i]);
	pp_executor_free(executor);
	free(futures);
	bench_line("procpool", "memory of a pending future", "bytes", &bytes);
	bench_bar("M1", "1 M pending", bench_median(&bytes), false, 400, "bytes");
}

static void workers(pp_executor *executor)
{
	struct bench_samples kib = { .n = 0 };
	pid_t pids[PROC_MOST];
	int count = proc_of_pool(executor, pids);

	for (int i = 1; i < count; i++)
		bench_add(&kib, (double)proc_private(pids[i]) / 1024);
	bench_line("procpool", "private memory of an idle worker", "KiB", &kib);
	bench_bar("M2", "the largest of 8", bench_percentile(&kib, 100), false, 256, "KiB");
	bench_clear(&kib);
	bench_add(&kib, (double)proc_private(pids[0]) / 1024);
	bench_line("procpool", "private memory of the supervisor", "KiB", &kib);
}

static int64_t cpu_of(const pid_t *pids, int count)
{
	int64_t ns = proc_cpu_ns(getpid());

	for (int i = 0; i < count; i++)
		ns += proc_cpu_ns(pids[i]);
	return ns;
}

static void idle(pp_executor *executor)
{
	struct bench_samples ms = { .n = 0 };
	pid_t pids[PROC_MOST];
	int count = proc_of_pool(executor, pids);
	int64_t before = cpu_of(pids, count);

	bench_sleep(IDLE_S * INT64_C(1000000000));
	bench_add(&ms, (double)(cpu_of(pids, count) - before) / 1e6);
	bench_line("procpool", "CPU of an idle pool, 8 workers, 10 s", "ms", &ms);
	bench_bar("I1", "8 workers, 10 s", bench_median(&ms), false, 1, "ms");
}

/* The arguments, when there are any, are the bars to measure. */
int main(int argc, char **argv)
{
	pp_executor *executor;

	bench_pick(argc, argv);
	if (bench_picked("M1"))
		pending();
	if (!bench_picked("M2") && !bench_picked("I1"))
		return 0;
	executor = bench_executor(8, PP_START_ALL);
	bench_ours.run(executor, TASKS, 1024);
	bench_sleep(SETTLE_NS);
	if (bench_picked("M2"))
		workers(executor);
	if (bench_picked("I1"))
		idle(executor);
	pp_executor_free(executor);
	return 0;
}
