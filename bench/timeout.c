/* SPDX-License-Identifier: MIT */
/*
 * R2: how long after its time is over a task that does not end by itself has been stopped, and the caller has the
 * error, with a grace of PP_NONE. The task notes when it begins, in memory of the application's own, and then loops,
 * or is blocked in a read, or blocks all signals and loops; the timeout counts from that note. In turns with it, what
 * a bare fork costs: from the call to the child's first step.
 */
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bench.h"

#define TIMEOUT_MS 50
#define MOST_MS    10                    /* the goal, without the fork */

static int64_t *begun;                   /* shared with the workers and the bare child, which inherit it */
static int silent_fds[2];                /* a pipe into which nobody writes */

static int loop(pp_task *task, const void *data, size_t size)
{
	(void)task;
	(void)data;
	(void)size;
	*begun = bench_now();
	for (;;)
		bench_pause();
	return 0;
}

static int read_for_ever(pp_task *task, const void *data, size_t size)
{
	char byte;

	(void)task;
	(void)data;
	(void)size;
	*begun = bench_now();
	return read(silent_fds[0], &byte, 1) == 1;
}

static int loop_deaf(pp_task *task, const void *data, size_t size)
{
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	return loop(task, data, size);
}

static const struct kind { const char *name; pp_fn *fn; } kinds[] = {
	{ "busy loop", loop }, { "blocked read", read_for_ever }, { "all signals blocked", loop_deaf },
};
#define KINDS (sizeof kinds / sizeof *kinds)

/* Milliseconds beyond the timeout. */
static double stop_one(pp_executor *executor, pp_fn *fn)
{
	pp_task_options options = PP_TASK_OPTIONS_INIT;
	const pp_outcome *outcome;
	pp_future *future;
	int64_t now;

	options.timeout_ms = TIMEOUT_MS;
	if (pp_submit_with(executor, &options, fn, NULL, 0, &future) < 0
	    || pp_future_result(future, PP_FOREVER, &outcome) < 0)
		bench_die("a timeout was not told");
	now = bench_now();
	if (outcome->kind != PP_TIMED_OUT)
		bench_die("a timeout was told as %s", pp_kind_name(outcome->kind));
	pp_future_free(future);
	return (double)(now - *begun) / 1e6 - TIMEOUT_MS;
}

static double bare_fork(void)
{
	int64_t before = bench_now();
	pid_t pid = fork();

	if (pid < 0)
		bench_die("fork");
	if (pid == 0) {
		*begun = bench_now();
		_exit(0);
	}
	waitpid(pid, NULL, 0);
	return (double)(*begun - before) / 1e6;
}

static pp_executor *create(void)
{
	pp_options options = PP_OPTIONS_INIT;
	pp_executor *executor;
	int rc;

	options.max_workers = 1;
	options.grace_ms = PP_NONE;
	rc = pp_executor_create(&executor, &options);
	if (rc < 0)
		bench_die("pp_executor_create: %s", pp_strerror(rc));
	return executor;
}

int main(void)
{
	struct bench_samples late[KINDS] = { { .n = 0 } }, bare = { .n = 0 };
	int rounds = bench_rounds(21);
	pp_executor *executor;
	char metric[96];

	begun = mmap(NULL, sizeof *begun, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (begun == MAP_FAILED || pipe(silent_fds) < 0)
		bench_die("no shared memory, or no pipe");
	executor = create();
	bench_round_trip(executor, bench_empty_task);
	for (int i = 0; i < rounds; i++) {
		for (size_t k = 0; k < KINDS; k++)
			bench_add(&late[k], stop_one(executor, kinds[k].fn));
		bench_add(&bare, bare_fork());
	}
	bench_line("bare fork", "until the child's first step", "ms", &bare);
	for (size_t k = 0; k < KINDS; k++) {
		snprintf(metric, sizeof metric, "timeout to the error, %s", kinds[k].name);
		bench_line("procpool", metric, "ms", &late[k]);
		bench_bar("R2", kinds[k].name, bench_median(&late[k]), false, MOST_MS + bench_median(&bare), "ms");
	}
	pp_executor_free(executor);
	return 0;
}
