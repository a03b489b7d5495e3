/* SPDX-License-Identifier: MIT */
/*
 * What bench/instructions.sh runs under callgrind: rounds of empty tasks in which nothing depends on time. While a worker
 * sits in a gate, a task that reads a byte from a pipe, a round's tasks are submitted, and then the next gate. Its byte
 * lets the worker run the whole round, up to that next gate, which says that it is there. So the worker never looks for
 * work in vain and never sleeps but in the gate, and the parent takes results that are all there: no side spins.
 * Argument: how many rounds. The difference between two runs is the cost of the steady state.
 */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "bench.h"

#define TASKS 1000

static int open_fds[2], there_fds[2];

static int gate(pp_task *task, const void *data, size_t size)
{
	char byte = 0;

	(void)task;
	(void)data;
	(void)size;
	return write(there_fds[1], &byte, 1) != 1 || read(open_fds[0], &byte, 1) != 1;
}

static void submit(pp_executor *executor, pp_fn *fn, pp_future **future)
{
	int rc = pp_submit(executor, fn, NULL, 0, future);

	if (rc < 0)
		bench_die("pp_submit: %s", pp_strerror(rc));
}

static void take(pp_future *future)
{
	const pp_outcome *outcome;

	if (pp_future_result(future, PP_FOREVER, &outcome) < 0 || outcome->kind != PP_RETURNED || outcome->size != 0)
		bench_die("a wrong result");
	pp_future_free(future);
}

static void read_byte(int fd)
{
	char byte;

	if (read(fd, &byte, 1) != 1)
		bench_die("a gate was not reached");
}

static void open_gate(void)
{
	if (write(open_fds[1], "", 1) != 1)
		bench_die("a gate could not be opened");
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 1;
	pp_future *futures[TASKS], *gate_now, *gate_next;
	pp_executor *executor;
	pid_t pid;

	if (pipe(open_fds) < 0 || pipe(there_fds) < 0)
		bench_die("pipe");
	executor = bench_executor(1, 0);
	submit(executor, gate, &gate_now);
	read_byte(there_fds[0]);
	if (pp_executor_workers(executor, &pid, 1) != 1)
		bench_die("there is no worker");
	for (int i = 0; i < rounds; i++) {
		for (int j = 0; j < TASKS; j++)
			submit(executor, bench_empty_task, futures + j);
		submit(executor, gate, &gate_next);
		open_gate();
		read_byte(there_fds[0]);
		for (int j = 0; j < TASKS; j++)
			take(futures[j]);
		take(gate_now);
		gate_now = gate_next;
	}
	open_gate();
	take(gate_now);
	printf("%d %d %d\n", (int)getpid(), (int)pid, rounds * TASKS);
	pp_executor_free(executor);
	return 0;
}
