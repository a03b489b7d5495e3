/* SPDX-License-Identifier: MIT */
/*
 * P1 to P3: a payload there and back, 1 KiB to 64 MiB, echo and argument only, in place and copying, by ours, by a bare
 * worker over shared memory that does the same (the reference), by pipes, by a fork with a pipe, and by Python's
 * ProcessPoolExecutor with bytes and with shared_memory. All take turns, round by round, on one size, caller and worker
 * each pinned to a CPU of its own (but for Python); a ratio is taken pair by pair. Beside the reference in place with
 * 64 MiB stands what one process needs to do the same to these bytes, so that it cannot be slow unnoticed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "payload.h"

#define MIB           ((size_t)1 << 20)
#define LANES         UINT64_C(0x00ff00ff00ff00ff)
#define BLOCK         128                        /* words: so many sums of bytes fit into a lane of 16 bits */
#define BYTES_A_ROUND (4 * MIB)                  /* but not more trips than MOST_TRIPS */
#define MOST_TRIPS    1000

void payload_flip(void *to, const void *from, size_t size)
{
	const uint64_t *in = from;
	uint64_t *out = to;

	for (size_t block = 0; block < size / sizeof *in; block += BLOCK)
		for (int i = 0; i < BLOCK; i++)
			out[block + (size_t)i] = ~in[block + (size_t)i];
}

uint64_t payload_sum(const void *data, size_t size)
{
	const uint64_t *in = data;
	uint64_t sum = 0;

	for (size_t block = 0; block < size / sizeof *in; block += BLOCK) {
		uint64_t even = 0, odd = 0;
		for (int i = 0; i < BLOCK; i++) {
			even += in[block + (size_t)i] & LANES;
			odd += in[block + (size_t)i] >> 8 & LANES;
		}
		even += odd;
		even = (even & UINT64_C(0x0000ffff0000ffff)) + (even >> 16 & UINT64_C(0x0000ffff0000ffff));
		sum += (uint32_t)even + (even >> 32);
	}
	return sum;
}

bool payload_copies(enum payload_mode mode)
{
	return mode == PAYLOAD_ECHO_COPY || mode == PAYLOAD_ARGUMENT_COPY;
}

bool payload_echoes(enum payload_mode mode)
{
	return mode == PAYLOAD_ECHO_PLACE || mode == PAYLOAD_ECHO_COPY;
}

void payload_check(const char *side, enum payload_mode mode, size_t size, uint64_t before, uint64_t got)
{
	if (got != (payload_echoes(mode) ? 255 * size - before : before))
		bench_die("%s: a wrong sum", side);
}

void *payload_fill(size_t size)
{
	uint64_t *data = aligned_alloc(4096, (size + 4095) & ~(size_t)4095);

	if (!data)
		bench_die("no memory");
	for (size_t i = 0; i < size / sizeof *data; i++)
		data[i] = i * UINT64_C(0x9e3779b97f4a7c15);
	return data;
}

/* ------------------------------------------------------------------ Python */

struct python { void *pool; size_t size; };

static void *python_open(const char *name, const void *source, size_t size, int cpu)
{
	struct python *p = calloc(1, sizeof *p);

	(void)source;
	(void)cpu;
	if (!p)
		bench_die("no memory");
	bench_pin(-1);
	p->size = size;
	p->pool = bench_python.open(name, 1);
	bench_pin(0);
	return p->pool ? p : NULL;
}

/* Its lines say how often, and how many bytes; below 0: argument only. */
static int64_t python_run(void *context, enum payload_mode mode, long trips)
{
	const struct python *p = context;

	return bench_python.run(p->pool, trips, payload_echoes(mode) ? (long)p->size : -(long)p->size);
}

static void python_close(void *context)
{
	struct python *p = context;

	bench_python.close(p->pool);
	free(p);
}

static const struct payload_side python_bytes = {
	"ProcessPoolExecutor, bytes", python_open, python_run, python_close,
	1u << PAYLOAD_ECHO_COPY | 1u << PAYLOAD_ARGUMENT_COPY
};
static const struct payload_side python_shared = {
	"ProcessPoolExecutor, shared_memory", python_open, python_run, python_close,
	1u << PAYLOAD_ECHO_PLACE | 1u << PAYLOAD_ARGUMENT_PLACE
};

/* ------------------------------------------------------------------ in turns */

enum { OURS, REFERENCE, PIPE, FORK, PYTHON_BYTES, PYTHON_SHARED, SIDES };
static const struct payload_side *const sides[SIDES] = {
	&payload_ours, &payload_reference, &payload_pipe, &payload_fork, &python_bytes, &python_shared
};
static const char *const mode_names[PAYLOAD_MODES] = {
	"echo in place", "argument in place", "echo, copying", "argument, copying"
};

struct size { const char *name; size_t bytes; };

struct run {
	const struct size   *size;
	void                *contexts[SIDES];
	struct bench_samples us[PAYLOAD_MODES][SIDES], ratios[PAYLOAD_MODES], pass, python;
	uint64_t             pass_sum;
};

static bool has(const struct run *run, int mode, int side)
{
	return run->contexts[side] && sides[side]->modes >> mode & 1;
}

static double measure(struct run *run, enum payload_mode mode, int side)
{
	size_t trips = BYTES_A_ROUND / run->size->bytes;
	double us;

	trips = trips > MOST_TRIPS ? MOST_TRIPS : trips < 2 ? 2 : trips;
	if (side >= FORK)                        /* slow, whatever the size */
		trips = (trips + 49) / 50;
	us = (double)sides[side]->run(run->contexts[side], mode, (long)trips) / 1e3 / (double)trips;
	bench_add(&run->us[mode][side], us);
	return us;
}

static void one_round(struct run *run)
{
	double ours[PAYLOAD_MODES], us;

	for (int mode = 0; mode < PAYLOAD_MODES; mode++)
		for (int side = 0; side < SIDES; side++) {
			if (!has(run, mode, side))
				continue;
			us = measure(run, (enum payload_mode)mode, side);
			if (side == OURS)
				ours[mode] = us;
			else if (side == REFERENCE)
				bench_add(&run->ratios[mode], ours[mode] / us);
			else if (side == PYTHON_BYTES && mode == PAYLOAD_ECHO_COPY)
				bench_add(&run->python, us / ours[PAYLOAD_ECHO_PLACE]);
		}
}

/* What one process needs to change and then to sum the bytes of an echo. */
static void pass(struct run *run, void *memory)
{
	int64_t start = bench_now();

	payload_flip(memory, memory, run->size->bytes);
	payload_check("plain pass", PAYLOAD_ECHO_PLACE, run->size->bytes, run->pass_sum,
	              payload_sum(memory, run->size->bytes));
	run->pass_sum = 255 * run->size->bytes - run->pass_sum;
	bench_add(&run->pass, (double)(bench_now() - start) / 1e3);
}

static void report(struct run *run)
{
	char metric[96];

	for (int mode = 0; mode < PAYLOAD_MODES; mode++) {
		snprintf(metric, sizeof metric, "%s, %s", mode_names[mode], run->size->name);
		for (int side = 0; side < SIDES; side++)
			if (run->us[mode][side].n)
				bench_line(sides[side]->name, metric, "us", &run->us[mode][side]);
		bench_bar(payload_copies((enum payload_mode)mode) ? "P2" : "P1", metric, bench_median(&run->ratios[mode]),
		          false, 1.25, "times");
		snprintf(metric, sizeof metric, "%s, %s, against bare shared memory", mode_names[mode], run->size->name);
		bench_line("procpool", metric, "times", &run->ratios[mode]);
	}
	snprintf(metric, sizeof metric, "change and sum, %s", run->size->name);
	bench_line("plain pass", metric, "us", &run->pass);
	if (run->size->bytes < 64 * MIB)
		return;
	if (run->python.n)
		bench_bar("P3", "echo, 64 MiB, in place", bench_median(&run->python), true, 50, "times");
	else
		bench_bar_absent("P3", "echo, 64 MiB", "no ProcessPoolExecutor");
}

/* Shared, as what the reference works on is; private memory would be copied anew after each fork. */
static void *shared_memory(size_t size)
{
	void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

	if (memory == MAP_FAILED)
		bench_die("no shared memory");
	return memory;
}

static void compare(const struct size *size)
{
	static struct run run;
	void *source = payload_fill(size->bytes), *memory = shared_memory(size->bytes);
	int cpu = bench_has(BENCH_TWO_CPUS) ? 1 : 0, rounds = bench_rounds(size->bytes < 64 * MIB ? 11 : 3);

	run.size = size;
	for (int side = 0; side < SIDES; side++) {
		run.contexts[side] = sides[side]->open(sides[side]->name, source, size->bytes, cpu);
		if (!run.contexts[side])
			fprintf(stderr, "skipped: %s is not here\n", sides[side]->name);
		for (int mode = 0; mode < PAYLOAD_MODES; mode++)         /* warms up; Python has, with small tasks */
			if (side < PYTHON_BYTES && has(&run, mode, side))
				sides[side]->run(run.contexts[side], (enum payload_mode)mode, 1);
	}
	run.pass_sum = payload_sum(memory, size->bytes);
	pass(&run, memory);
	bench_clear(&run.pass);
	for (int i = 0; i < rounds; i++) {
		one_round(&run);
		pass(&run, memory);
	}
	report(&run);
	for (int side = 0; side < SIDES; side++)
		if (run.contexts[side])
			sides[side]->close(run.contexts[side]);
}

/* The arguments, when there are any, are the sizes to measure. */
int main(int argc, char **argv)
{
	static const struct size sizes[] = {
		{ "1 KiB", 1024 }, { "64 KiB", 64 * 1024 }, { "1 MiB", MIB }, { "64 MiB", 64 * MIB }
	};
	int status = 0, failed = 0;

	bench_pick(argc, argv);
	for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		pid_t pid;
		if (!bench_picked(sizes[i].name))
			continue;
		pid = fork();
		if (pid == 0) {
			compare(sizes + i);
			exit(0);
		}
		if (pid < 0 || waitpid(pid, &status, 0) < 0 || status != 0)
			failed = 1;
	}
	return failed;
}
