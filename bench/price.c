/* SPDX-License-Identifier: MIT */
/*
 * What options cost each task that does nothing: accounting, hardening, capture, and a timeout that does not come to pass. Parent and
 * worker share one CPU, so what either of them does more is in the difference; and the parent sleeps until the last task has
 * ended, because a worker that it had to be switched with for each task would be all that is measured. A round is one measure
 * without and one with, and the difference is taken round by round.
 */
#include <stdio.h>
#include "bench.h"

#define N 32768

struct option {
	const char *name;
	uint32_t    flags;
	int64_t     timeout_ms;
};

static const struct option options[] = {
	{ "PP_ACCOUNTING", PP_ACCOUNTING, 0 },
	{ "PP_HARDENED", PP_HARDENED, 0 },
	{ "PP_CAPTURE", PP_CAPTURE, 0 },
	{ "timeout_ms", 0, 3600 * 1000 },
};

static double ns_per_task(pp_executor *executor)
{
	static pp_future *futures[N];
	int64_t start = bench_now();
	const pp_outcome *outcome;
	int rc = 0;

	for (int i = 0; i < N && rc == 0; i++)
		rc = pp_submit(executor, bench_empty_task, NULL, 0, &futures[i]);
	if (rc == 0)
		rc = pp_future_result(futures[N - 1], PP_FOREVER, NULL);
	for (int i = 0; i < N && rc == 0; i++) {
		rc = pp_future_result(futures[i], PP_FOREVER, &outcome);
		if (rc == 0 && outcome->kind != PP_RETURNED)
			bench_die("%s: %s", pp_kind_name(outcome->kind), outcome->message);
		pp_future_free(futures[i]);
	}
	if (rc < 0)
		bench_die("%s", pp_strerror(rc));
	return (double)(bench_now() - start) / N;
}

static pp_executor *create(const struct option *option)
{
	pp_options o = PP_OPTIONS_INIT;
	pp_executor *executor;
	int rc;

	o.max_workers = 1;
	o.flags = option->flags;
	o.timeout_ms = option->timeout_ms;
	rc = pp_executor_create(&executor, &o);
	if (rc < 0)
		bench_die("pp_executor_create: %s", pp_strerror(rc));
	ns_per_task(executor);           /* the first time memory is given to slots */
	return executor;
}

static void compare(const struct option *option)
{
	struct bench_samples plain = { .n = 0 }, more = { .n = 0 };
	pp_executor *without = create(&(struct option){ .name = "none" }), *with = create(option);
	int rounds = bench_rounds(101);
	char metric[96];

	for (int i = 0; i < rounds; i++) {
		double before = ns_per_task(without);
		bench_add(&plain, before);
		bench_add(&more, ns_per_task(with) - before);
	}
	snprintf(metric, sizeof metric, "an empty task, beside %s", option->name);
	bench_line("procpool", metric, "ns", &plain);
	snprintf(metric, sizeof metric, "what %s adds to each task", option->name);
	bench_line("procpool", metric, "ns", &more);
	bench_clear(&plain);
	bench_clear(&more);
	pp_executor_free(without);
	pp_executor_free(with);
}

int main(void)
{
	bench_pin(0);
	for (size_t i = 0; i < sizeof options / sizeof *options; i++)
		compare(&options[i]);
	return 0;
}
