/* SPDX-License-Identifier: MIT */
/*
 * The shared ground of the measuring programs: see bench.h. What fails ends the program with a line on stderr and status 1,
 * because a figure from a run in which something failed is worth nothing.
 */
#include "bench.h"
#include <errno.h>
#include <sched.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

const char *const bench_layout_names[BENCH_LAYOUTS] = { "two CPUs", "same CPU" };

int64_t bench_now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

void bench_sleep(int64_t ns)
{
	struct timespec ts = { ns / 1000000000, ns % 1000000000 };

	while (nanosleep(&ts, &ts) < 0 && errno == EINTR)
		;
}

void bench_die(const char *format, ...)
{
	va_list list;

	va_start(list, format);
	fprintf(stderr, "%s: ", program_invocation_short_name);
	vfprintf(stderr, format, list);
	fputc('\n', stderr);
	va_end(list);
	exit(1);
}

int bench_rounds(int usual)
{
	const char *text = getenv("BENCH_ROUNDS");

	return text && atoi(text) > 0 ? atoi(text) : usual;
}

static char **picked;
static int picked_count;

void bench_pick(int argc, char **argv)
{
	picked = argv + 1;
	picked_count = argc - 1;
}

bool bench_picked(const char *id)
{
	for (int i = 0; i < picked_count; i++)
		if (strcmp(picked[i], id) == 0)
			return true;
	return picked_count <= 0;
}

/* ------------------------------------------------------------------ CPUs */

static cpu_set_t allowed;

static int allowed_cpu(int n)
{
	if (!CPU_COUNT(&allowed) && sched_getaffinity(0, sizeof allowed, &allowed) < 0)
		bench_die("sched_getaffinity: %s", strerror(errno));
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &allowed) && n-- == 0)
			return cpu;
	return -1;
}

bool bench_has(enum bench_layout layout)
{
	return layout == BENCH_SAME_CPU || allowed_cpu(1) >= 0;
}

void bench_pin(int n)
{
	cpu_set_t set;
	int cpu = allowed_cpu(n < 0 ? 0 : n);

	CPU_ZERO(&set);
	if (cpu < 0)
		bench_die("there is no CPU %d", n);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof set, n < 0 ? &allowed : &set) < 0)
		bench_die("sched_setaffinity: %s", strerror(errno));
}

int bench_partner_cpu(enum bench_layout layout)
{
	return layout == BENCH_TWO_CPUS ? 1 : 0;
}

/* ------------------------------------------------------------------ samples */

void bench_add(struct bench_samples *s, double value)
{
	if (s->n == s->room) {
		s->room = s->room ? 2 * s->room : 64;
		s->v = realloc(s->v, s->room * sizeof *s->v);
		if (!s->v)
			bench_die("no memory");
	}
	s->v[s->n++] = value;
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

double bench_percentile(struct bench_samples *s, double percent)
{
	if (!s->n)
		bench_die("no samples");
	qsort(s->v, s->n, sizeof *s->v, compare);
	return s->v[(size_t)((double)(s->n - 1) * percent / 100.0 + 0.5)];
}

double bench_median(struct bench_samples *s)
{
	return bench_percentile(s, 50);
}

void bench_clear(struct bench_samples *s)
{
	free(s->v);
	*s = (struct bench_samples){ .v = NULL };
}

void bench_line(const char *name, const char *metric, const char *unit, struct bench_samples *s)
{
	double median = bench_median(s);

	printf("%s\t%s\t%.4g\t%s\t%.4g\t%.4g\n", name, metric, median, unit, s->v[0], s->v[s->n - 1]);
	fflush(stdout);
}

void bench_bar(const char *id, const char *part, double measured, bool at_least, double goal, const char *unit)
{
	bool ok = at_least ? measured >= goal : measured <= goal;

	printf("bar\t%s\t%s\t%.4g\t%s\t%.4g\t%s\t%s\n", id, part, measured, at_least ? "at least" : "at most", goal, unit,
	       ok ? "ok" : "short");
	fflush(stdout);
}

void bench_bar_absent(const char *id, const char *part, const char *why)
{
	printf("bar\t%s\t%s\t-\t-\t-\t%s\tshort\n", id, part, why);
	fflush(stdout);
}

void *bench_heap(size_t size)
{
	char *heap = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (heap == MAP_FAILED)
		bench_die("no memory for a heap of %zu bytes", size);
	madvise(heap, size, MADV_NOHUGEPAGE);    /* as a heap of small pieces is */
	for (size_t i = 0; i < size; i += 4096)
		heap[i] = 1;
	return heap;
}
