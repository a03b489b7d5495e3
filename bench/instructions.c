/* SPDX-License-Identifier: MIT */
/*
 * What bench/instructions.sh runs under callgrind: rounds of empty tasks in which nothing depends on time. While a
 * worker sits in a gate, a task that reads a byte from a pipe, a round's tasks are submitted, and then the next gate.
 * Its byte lets the worker run the whole round, up to that next gate, which says that it is there. So the worker never
 * looks for work in vain and never sleeps but in the gate, and the parent takes results that are all there: no side
 * spins. First argument: how many rounds. The difference between two runs is the cost of the steady state. With a
 * second one it prints where the areas are whose cache lines bench/lines.sh counts, in a trace of all accesses to
 * memory in which the stores to marks[] say what is being done.
 */
#include <stdalign.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include "bench.h"
#include "pool.h"

#define TASKS 1000

static int open_fds[2], there_fds[2];

enum doing { NOTHING, SUBMITTING, TAKING, WORKING };
alignas(PP__LINE) static volatile char marks[PP__LINE];

static int gate(pp_task *task, const void *data, size_t size)
{
	char byte = 0;
	int rc;

	(void)task;
	(void)data;
	(void)size;
	marks[NOTHING] = 1;
	rc = write(there_fds[1], &byte, 1) != 1 || read(open_fds[0], &byte, 1) != 1;
	marks[WORKING] = 1;
	return rc;
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

/* each: one per slot or entry of a ring, and not for all tasks the same */
static void print_area(const char *name, const char *of, const volatile void *start, size_t size)
{
	printf("%s\t%s\t%zu\t%zu\n", name, of, (size_t)start, (size_t)start + size);
}

static void print_areas(const pp_executor *ex, pp_future *const *futures)
{
	const struct pp__shared *shared = &ex->segment.shared;
	const struct pp__slab *slab = ex->slabs[0];
	uint32_t entries = PP__ENTRIES(1);

	print_area("marks", "all", marks, sizeof marks);
	print_area("future", "each", slab->futures, sizeof slab->futures);
	print_area("box", "each", slab->boxes, sizeof slab->boxes);
	print_area("rare half", "each", slab->extras, sizeof slab->extras);
	print_area("descriptor", "each", shared->descs, PP__SLAB * sizeof *shared->descs);
	print_area("cell", "each", shared->cells, PP__SLAB * sizeof *shared->cells);
	print_area("extension", "each", shared->extensions, (size_t)PP__SLAB * PP__EXTENSION);
	print_area("ring", "each", shared->base + shared->header->rings, 2 * PP__LEVELS * shared->header->ring_stride);
	print_area("header", "all", shared->header, sizeof *shared->header);
	print_area("control", "all", shared->control, sizeof *shared->control);
	print_area("worker line", "all", shared->workers, entries * sizeof *shared->workers);
	print_area("tally", "all", shared->tallies, PP__TALLIES(entries) * sizeof *shared->tallies);
	print_area("executor", "all", ex, sizeof *ex);
	print_area("caller's array of futures", "each", futures, TASKS * sizeof *futures);
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
		marks[SUBMITTING] = 1;
		for (int j = 0; j < TASKS; j++)
			submit(executor, bench_empty_task, futures + j);
		marks[NOTHING] = 1;
		submit(executor, gate, &gate_next);
		open_gate();
		read_byte(there_fds[0]);
		marks[TAKING] = 1;
		for (int j = 0; j < TASKS; j++)
			take(futures[j]);
		marks[NOTHING] = 1;
		take(gate_now);
		gate_now = gate_next;
	}
	open_gate();
	take(gate_now);
	printf("%d %d %d\n", (int)getpid(), (int)pid, rounds * TASKS);
	if (argc > 2)
		print_areas(executor, futures);
	pp_executor_free(executor);
	return 0;
}
