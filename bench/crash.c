/* SPDX-License-Identifier: MIT */
/*
 * C1 to C4: what a crash costs. A task notes the time in memory of the application's own and then writes to address 0;
 * C1 and C2 count from that note to the error at the caller; beside them stands a bare process whose handler only posts a
 * semaphore, which is what the kernel asks for a fault, a handler and a wake. C3 counts from the error to the next task's result on a pool of one
 * worker whose spare was ready, C4 crashes one after the other as fast as they come, beside a bare fork, crash, waitpid.
 * Each case is a process of its own, because the heap that the workers inherit is part of what is measured.
 */
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bench.h"

#define GIB       (UINT64_C(1) << 30)
#define CRASHES   40
#define SEQUENCE  200

static int64_t *faulted;                 /* shared with the workers, which inherit it */
static sem_t *go, *told_of;              /* of the bare process */

static int crash(pp_task *task, const void *data, size_t size)
{
	(void)task;
	(void)data;
	(void)size;
	*faulted = bench_now();
	*(volatile int *)NULL = 1;       /* nothing else here ends a process this way */
	return 0;
}

/* The moment at which the caller has the error. */
static int64_t crash_once(pp_executor *executor)
{
	const pp_outcome *outcome;
	pp_future *future;
	int64_t now;

	if (pp_submit(executor, crash, NULL, 0, &future) < 0 || pp_future_result(future, PP_FOREVER, &outcome) < 0)
		bench_die("a crash was not told");
	now = bench_now();
	if (outcome->kind != PP_CRASHED || outcome->signal != SIGSEGV)
		bench_die("a crash was told as %s", pp_kind_name(outcome->kind));
	pp_future_free(future);
	return now;
}

static double idle_bare(struct bench_bare *bare)
{
	int64_t start;

	bench_sleep(1000000);
	start = bench_now();
	bench_bare_round_trip(bare);
	return (double)(bench_now() - start) / 1e3;
}

static void post_and_die(int signal)
{
	sem_post(told_of);
	(void)signal;
	_exit(0);
}

/* A process that has slept as the worker has, and crashes as its task does. */
static double bare_handler(int cpu)
{
	static char stack[1 << 16];
	const stack_t place = { .ss_sp = stack, .ss_size = sizeof stack };
	struct sigaction action = { .sa_handler = post_and_die, .sa_flags = SA_ONSTACK };
	double took;
	pid_t pid;

	bench_pin(cpu);
	pid = fork();
	if (pid < 0)
		bench_die("fork");
	if (pid == 0) {
		sigaltstack(&place, NULL);
		sigaction(SIGSEGV, &action, NULL);
		while (sem_wait(go) < 0)
			;
		crash(NULL, NULL, 0);
	}
	bench_pin(0);
	bench_sleep(20000000);
	sem_post(go);
	while (sem_wait(told_of) < 0)
		;
	took = (double)(bench_now() - *faulted) / 1e3;
	waitpid(pid, NULL, 0);
	return took;
}

static void report(enum bench_layout layout, size_t heap, struct bench_samples *told, struct bench_samples *next,
                   struct bench_samples *bare, struct bench_samples *handler)
{
	const char *where = bench_layout_names[layout], *what = heap ? ", 1 GiB heap" : "";
	char metric[96], part[64];

	snprintf(metric, sizeof metric, "SIGSEGV to the error, %s%s", where, what);
	bench_line("procpool", metric, "us", told);
	snprintf(metric, sizeof metric, "error to the next task's result, %s%s", where, what);
	bench_line("procpool", metric, "us", next);
	snprintf(metric, sizeof metric, "round trip beside crashes, idle, %s%s", where, what);
	bench_line("bare sem_t", metric, "us", bare);
	snprintf(metric, sizeof metric, "SIGSEGV to the wake by its handler, %s%s", where, what);
	bench_line("bare process", metric, "us", handler);
	snprintf(part, sizeof part, "%s%s", where, what);
	if (heap)
		bench_bar("C2", part, bench_median(told), false, 200, "us");
	else
		bench_bar("C1", part, bench_median(told), false, bench_median(bare) + 40, "us");
	bench_bar("C3", part, bench_median(next), false, heap ? 500 : 300, "us");
}

static void one_by_one(enum bench_layout layout, size_t heap)
{
	struct bench_samples told = { .n = 0 }, next = { .n = 0 }, bare = { .n = 0 }, handler = { .n = 0 };
	int cpu = bench_partner_cpu(layout), crashes = heap ? CRASHES / 2 : CRASHES;
	void *memory = heap ? bench_heap(heap) : NULL;
	struct bench_bare *partner = bench_bare_start(cpu, false);
	pp_executor *executor = bench_executor_on(cpu, 1);

	bench_round_trip(executor, bench_empty_task);
	for (int i = 0; i < crashes; i++) {
		int64_t error;
		bench_sleep(heap ? 200000000 : 20000000);        /* a spare is there, and all sleep */
		error = crash_once(executor);
		bench_round_trip(executor, bench_empty_task);
		bench_add(&next, (double)(bench_now() - error) / 1e3);
		bench_add(&told, (double)(error - *faulted) / 1e3);
		bench_add(&bare, idle_bare(partner));
		bench_add(&handler, bare_handler(cpu));
	}
	report(layout, heap, &told, &next, &bare, &handler);
	pp_executor_free(executor);
	bench_bare_stop(partner);
	if (memory)
		munmap(memory, heap);
}

static double bare_crashes(void)
{
	int64_t start = bench_now();

	for (int i = 0; i < SEQUENCE; i++) {
		int status;
		pid_t pid = fork();
		if (pid < 0)
			bench_die("fork");
		if (pid == 0)
			crash(NULL, NULL, 0);
		if (waitpid(pid, &status, 0) != pid || !WIFSIGNALED(status) || WTERMSIG(status) != SIGSEGV)
			bench_die("the bare child did not crash");
	}
	return 1e9 * SEQUENCE / (double)(bench_now() - start);
}

static void in_sequence(void)
{
	struct bench_samples ours = { .n = 0 }, bare = { .n = 0 }, ratios = { .n = 0 };
	pp_executor *executor = bench_executor(1, 0);
	int rounds = bench_rounds(11);

	crash_once(executor);
	for (int i = 0; i < rounds; i++) {
		int64_t start = bench_now();
		for (int j = 0; j < SEQUENCE; j++)
			crash_once(executor);
		bench_add(&ours, 1e9 * SEQUENCE / (double)(bench_now() - start));
		bench_add(&bare, bare_crashes());
		bench_add(&ratios, ours.v[ours.n - 1] / bare.v[bare.n - 1]);
	}
	bench_line("procpool", "crashes in sequence", "crashes/s", &ours);
	bench_line("fork + crash + waitpid", "crashes in sequence", "crashes/s", &bare);
	bench_line("procpool", "crashes in sequence against bare fork", "times", &ratios);
	bench_bar("C4", "one worker", bench_median(&ratios), true, 0.7, "times");
	pp_executor_free(executor);
}

int main(void)
{
	static const struct rlimit no_core = { 0, 0 };
	int status = 0, failed = 0;

	setrlimit(RLIMIT_CORE, &no_core);        /* a core dump is not what is measured */
	faulted = mmap(NULL, sizeof *faulted + 2 * sizeof *go, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (faulted == MAP_FAILED)
		bench_die("no shared memory");
	go = (sem_t *)(void *)(faulted + 1);
	told_of = go + 1;
	if (sem_init(go, 1, 0) < 0 || sem_init(told_of, 1, 0) < 0)
		bench_die("no semaphores");
	for (int i = 0; i < 5; i++) {
		enum bench_layout layout = i & 1 ? BENCH_SAME_CPU : BENCH_TWO_CPUS;
		pid_t pid = i < 4 && !bench_has(layout) ? -1 : fork();
		if (pid < 0)
			continue;
		if (pid == 0) {
			if (i < 4)
				one_by_one(layout, i < 2 ? 0 : GIB);
			else
				in_sequence();
			exit(0);
		}
		if (waitpid(pid, &status, 0) < 0 || status != 0)
			failed = 1;
	}
	return failed;
}
