/* SPDX-License-Identifier: MIT */
/*
 * S1: create with two workers until both are ready (PP_START_ALL), and shutdown until no process is left; beside it
 * ProcessPoolExecutor until both of its workers have answered, and its shutdown.
 */
#include <stdio.h>
#include <stdlib.h>
#include "bench.h"

#define POOLS 5                          /* a round of ours */

static void ours(struct bench_samples *start, struct bench_samples *stop)
{
	for (int i = 0; i < POOLS; i++) {
		int64_t before = bench_now(), ready;
		pp_executor *executor = bench_executor(2, PP_START_ALL);
		ready = bench_now();
		pp_executor_free(executor);
		bench_add(start, (double)(ready - before) / 1e6);
		bench_add(stop, (double)(bench_now() - ready) / 1e6);
	}
}

int main(void)
{
	struct bench_samples start = { .n = 0 }, stop = { .n = 0 }, py_start = { .n = 0 }, py_stop = { .n = 0 };
	void *python = bench_python.open("ProcessPoolExecutor", 2);
	int rounds = bench_rounds(11);

	for (int i = 0; i < rounds; i++) {
		int64_t both;
		ours(&start, &stop);
		if (!python)
			continue;
		both = bench_python.run(python, 0, 0);
		bench_add(&py_start, (double)both / 1e6);
		bench_add(&py_stop, (double)bench_python.run(python, -1, 0) / 1e6);
	}
	bench_line("procpool", "create, 2 workers ready", "ms", &start);
	bench_line("procpool", "shutdown, 2 workers", "ms", &stop);
	if (python) {
		bench_line("ProcessPoolExecutor", "create, 2 workers ready", "ms", &py_start);
		bench_line("ProcessPoolExecutor", "shutdown, 2 workers", "ms", &py_stop);
		bench_python.close(python);
	} else {
		fprintf(stderr, "skipped: ProcessPoolExecutor is not here\n");
	}
	bench_bar("S1", "create", bench_median(&start), false, 2, "ms");
	bench_bar("S1", "shutdown", bench_median(&stop), false, 2, "ms");
	return 0;
}
