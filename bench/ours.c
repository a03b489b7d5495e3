/* SPDX-License-Identifier: MIT */
/*
 * Our side: each task is one pp_submit, one pp_future_result whose kind and bytes are checked, and one pp_future_free, run
 * in a worker process, with default options but for the number of workers.
 */
#include "bench.h"
#include <stdlib.h>
#include <string.h>

pp_executor *bench_executor(int workers, uint32_t flags)
{
	pp_options options = PP_OPTIONS_INIT;
	pp_executor *executor;
	int rc;

	options.max_workers = workers;
	options.flags = flags;
	rc = pp_executor_create(&executor, &options);
	if (rc < 0)
		bench_die("pp_executor_create: %s", pp_strerror(rc));
	return executor;
}

pp_executor *bench_executor_on(int cpu, int workers)
{
	pp_executor *executor;

	bench_pin(cpu);
	executor = bench_executor(workers, 0);
	bench_pin(0);
	return executor;
}

int bench_empty_task(pp_task *task, const void *data, size_t size)
{
	(void)task;
	(void)data;
	(void)size;
	return 0;
}

static int add_one(pp_task *task, const void *data, size_t size)
{
	uint64_t value;

	if (size != sizeof value)
		return 1;
	memcpy(&value, data, sizeof value);
	value++;
	return pp_return(task, &value, sizeof value);
}

static void check(pp_future *future, size_t size, uint64_t value)
{
	const pp_outcome *outcome;
	int rc = pp_future_result(future, PP_FOREVER, &outcome);

	if (rc < 0)
		bench_die("pp_future_result: %s", pp_strerror(rc));
	if (outcome->kind != PP_RETURNED || outcome->size != size || (size && memcmp(outcome->data, &value, size)))
		bench_die("a wrong result: %s, %zu bytes", pp_kind_name(outcome->kind), outcome->size);
	pp_future_free(future);
}

static void submit(pp_executor *executor, pp_fn *fn, const void *data, size_t size, pp_future **future)
{
	int rc = pp_submit(executor, fn, data, size, future);

	if (rc < 0)
		bench_die("pp_submit: %s", pp_strerror(rc));
}

void bench_round_trip(pp_executor *executor, pp_fn *fn)
{
	pp_future *future;

	submit(executor, fn, NULL, 0, &future);
	check(future, 0, 0);
}

static int64_t run(pp_executor *executor, pp_fn *fn, size_t size, long n, long window)
{
	pp_future **futures = malloc((size_t)window * sizeof(pp_future *));
	int64_t start = bench_now(), took;

	if (!futures)
		bench_die("no memory");
	for (long i = 0; i < n + window; i++) {
		pp_future **future = futures + (i & (window - 1));
		uint64_t value = (uint64_t)i;
		if (i >= window && i - window < n)
			check(*future, size, value - (uint64_t)window + 1);
		if (i < n)
			submit(executor, fn, size ? &value : NULL, size, future);
	}
	took = bench_now() - start;
	free(futures);
	return took;
}

static void *ours_open(const char *name, int workers)
{
	(void)name;
	return bench_executor(workers, 0);
}

static int64_t ours_run(void *pool, long n, long window)
{
	return run(pool, bench_empty_task, 0, n, window);
}

static int64_t ours_run_8(void *pool, long n, long window)
{
	return run(pool, add_one, sizeof(uint64_t), n, window);
}

static void ours_close(void *pool)
{
	pp_executor_free(pool);
}

const struct bench_side bench_ours = { "procpool", ours_open, ours_run, ours_close };
const struct bench_side bench_ours_8 = { "procpool, 8 bytes in and out", ours_open, ours_run_8, ours_close };
