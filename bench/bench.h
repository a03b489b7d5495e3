/* SPDX-License-Identifier: MIT */
/*
 * What the programs of bench/ share: clock, pinning, samples and their medians, the two kinds of line that they print, and
 * the sides of a comparison.
 *
 * A program measures ours and a peer in turns, one round each, so that what the machine does meanwhile hits both, and a
 * ratio is the median of the ratios pair by pair. It prints table lines, tab-separated:
 *     name  metric  value  unit  min  max
 * and lines that start with "bar", which bench/run.sh takes out of the table and judges.
 */
#ifndef BENCH_H
#define BENCH_H

#include <procpool.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

int64_t bench_now(void);                         /* nanoseconds, CLOCK_MONOTONIC */
void    bench_sleep(int64_t ns);
static inline void bench_pause(void)             /* between two looks */
{
#if defined __x86_64__
	__builtin_ia32_pause();
#endif
}
void    bench_die(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
int     bench_rounds(int usual);                 /* how many rounds to take: BENCH_ROUNDS, or as usual */

/* The arguments of a program are the bars to measure; none: all. */
void    bench_pick(int argc, char **argv);
bool    bench_picked(const char *id);

/* The two layouts of a round trip. CPU 0 and 1 are the first two that this process may use. */
enum bench_layout { BENCH_TWO_CPUS, BENCH_SAME_CPU, BENCH_LAYOUTS };
extern const char *const bench_layout_names[BENCH_LAYOUTS];
bool    bench_has(enum bench_layout layout);
void    bench_pin(int cpu);                      /* 0 or 1; -1: wherever this process was allowed to run at first */
int     bench_partner_cpu(enum bench_layout layout);     /* the parent runs on 0 */

struct bench_samples {
	double *v;
	size_t  n, room;
};
void    bench_add(struct bench_samples *s, double value);
double  bench_percentile(struct bench_samples *s, double percent);      /* sorts */
double  bench_median(struct bench_samples *s);
void    bench_clear(struct bench_samples *s);

/* Median, min and max of the samples, on one line. */
void    bench_line(const char *name, const char *metric, const char *unit, struct bench_samples *s);
/* One part of a bar. at_least: the goal is a floor, else a ceiling. A bar is as good as its worst part. */
void    bench_bar(const char *id, const char *part, double measured, bool at_least, double goal, const char *unit);
void    bench_bar_absent(const char *id, const char *part, const char *why);

/* ------------------------------------------------------------------ the sides of a comparison */

struct bench_side {
	const char *name;
	/* NULL: not to be had on this machine. */
	void   *(*open)(const char *name, int workers);
	/* n tasks, at most window (a power of two) outstanding, every result checked; the nanoseconds that it took. */
	int64_t (*run)(void *pool, long n, long window);
	void    (*close)(void *pool);
};
extern const struct bench_side bench_ours, bench_ours_8;         /* empty tasks; 8 bytes in, 8 bytes out */
extern const struct bench_side bench_fork;
extern const struct bench_side bench_bare_stream;        /* bare_stream.c; window: at most 32 Ki */
extern const struct bench_side *const bench_peers_c[];           /* libraries found by configure; ends with NULL */
const struct bench_side *bench_peer(const char *name);           /* one of those, or NULL */
/* Programs in Python, by bench/peers.py: "ProcessPoolExecutor", ... */
extern const struct bench_side bench_python;

pp_executor *bench_executor(int workers, uint32_t flags);
/* Its workers, and its supervisor, on that CPU; then back to CPU 0. */
pp_executor *bench_executor_on(int cpu, int workers);
/* Submits and checks one task without bytes. */
void    bench_round_trip(pp_executor *executor, pp_fn *fn);
int     bench_empty_task(pp_task *task, const void *data, size_t size);

/* ------------------------------------------------------------------ a bare partner */

/* A process on the other end, which answers each token by one: over two process-shared semaphores, or, spinning, over two
 * words, which is as fast as two CPUs can talk. */
struct bench_bare;
struct bench_bare *bench_bare_start(int cpu, bool spinning);
void    bench_bare_round_trip(struct bench_bare *bare);
void    bench_bare_stop(struct bench_bare *bare);

/* The application's memory: size bytes, each page touched. */
void   *bench_heap(size_t size);

#ifdef __cplusplus
}
#endif
#endif
