/* SPDX-License-Identifier: MIT */
/*
 * What options cost each task that does nothing: accounting, capture, and a timeout that does not come to pass. Parent and
 * worker share one CPU, so what either of them does more is in the difference. A round is one measure without and one with,
 * and the difference is taken round by round.
 */
#include <stdio.h>
#include "bench.h"

#define N      100000L
#define WINDOW 32768L

struct option {
	const char *name;
	uint32_t    flags;
	int64_t     timeout_ms;
};

static const struct option options[] = {
	{ "PP_ACCOUNTING", PP_ACCOUNTING, 0 },
	{ "PP_CAPTURE", PP_CAPTURE, 0 },
	{ "timeout_ms", 0, 3600 * 1000 },
};

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
	bench_ours.run(executor, WINDOW, WINDOW);
	return executor;
}

static double ns_per_task(pp_executor *executor)
{
	return (double)bench_ours.run(executor, N, WINDOW) / (double)N;
}

static void compare(const struct option *option)
{
	struct bench_samples plain = { .n = 0 }, more = { .n = 0 };
	pp_executor *without = create(&(struct option){ .name = "none" }), *with = create(option);
	int rounds = bench_rounds(21);
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
