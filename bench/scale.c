/* SPDX-License-Identifier: MIT */
/*
 * T5 to T8: how our own rate holds when there is more of everything: more tasks in all, more of them outstanding, more
 * workers than CPUs, more threads that submit. What is compared takes turns, round by round. Beside T8 stands what a lock
 * and the lines that it guards cost several threads, and nothing else, where they do not take turns at it.
 */
#include <pthread.h>
#include <stdalign.h>
#include <stdio.h>
#include "bench.h"

#define WINDOW   32768L
#define MILLION  1000000L
#define THREADS  4

struct variant {
	const struct bench_side *side;
	const char          *metric;
	void                *pool;
	long                 n, window;
	int                  threads;
	struct bench_samples rate;
};

/* Where the ring ends, where the next slot is, how many there were: what submits of all threads write under one lock. */
struct bare {
	pthread_mutex_t lock;
	struct { alignas(64) volatile long value; } lines[4];
};

static int64_t bare_run(void *bare, long n, long window)
{
	struct bare *b = bare;
	int64_t start = bench_now();

	(void)window;
	while (n--) {
		pthread_mutex_lock(&b->lock);
		for (int i = 0; i < 4; i++)
			b->lines[i].value++;
		pthread_mutex_unlock(&b->lock);
	}
	return bench_now() - start;
}

static const struct bench_side bare_lock = { "bare lock and four lines", NULL, bare_run, NULL };

struct share { const struct variant *variant; pthread_barrier_t *together; };

static void *share_main(void *context)
{
	const struct share *share = context;
	const struct variant *v = share->variant;

	pthread_barrier_wait(share->together);
	v->side->run(v->pool, v->n / v->threads, v->window / v->threads);
	return NULL;
}

/* Each thread has its part of the tasks and of the window, and checks each result: a task lost would end this in a hang. */
static int64_t run_threads(const struct variant *v)
{
	pthread_t threads[THREADS];
	pthread_barrier_t together;
	struct share share = { v, &together };
	int64_t start;

	pthread_barrier_init(&together, NULL, (unsigned)v->threads + 1);
	for (int i = 0; i < v->threads; i++)
		if (pthread_create(threads + i, NULL, share_main, &share) != 0)
			bench_die("no thread");
	start = bench_now();
	pthread_barrier_wait(&together);
	for (int i = 0; i < v->threads; i++)
		pthread_join(threads[i], NULL);
	pthread_barrier_destroy(&together);
	return bench_now() - start;
}

static double rate_of(const struct variant *v)
{
	int64_t took = v->threads > 1 ? run_threads(v) : v->side->run(v->pool, v->n, v->window);

	return 1e9 * (double)v->n / (double)took;
}

static void run_rounds(struct variant *variants, size_t count, int rounds)
{
	for (int i = -1; i < rounds; i++) {
		for (size_t j = 0; j < count; j++) {
			double rate = rate_of(variants + j);
			if (i >= 0)              /* the first round warms slots and workers up */
				bench_add(&variants[j].rate, rate);
		}
	}
}

/* The median of the ratios of a to b, round by round; before the lines, which sort. */
static double ratio(const struct variant *a, const struct variant *b)
{
	struct bench_samples s = { .n = 0 };
	double median;

	for (size_t i = 0; i < a->rate.n; i++)
		bench_add(&s, a->rate.v[i] / b->rate.v[i]);
	median = bench_median(&s);
	bench_clear(&s);
	return median;
}

static void print(struct variant *variants, size_t count)
{
	for (size_t j = 0; j < count; j++) {
		bench_line(variants[j].side->name, variants[j].metric,
		           variants[j].side == &bench_ours ? "tasks/s" : "turns/s", &variants[j].rate);
		bench_clear(&variants[j].rate);
	}
}

static void totals(void *pool)
{
	struct variant v[] = {
		{ &bench_ours, "100 k tasks in all, 1 worker", pool, 100000, WINDOW, 1, { .n = 0 } },
		{ &bench_ours, "1 M tasks in all, 1 worker", pool, MILLION, WINDOW, 1, { .n = 0 } },
		{ &bench_ours, "10 M tasks in all, 1 worker", pool, 10 * MILLION, WINDOW, 1, { .n = 0 } },
	};
	double low, high;

	run_rounds(v, 3, bench_rounds(5));
	low = high = bench_median(&v[0].rate);
	for (int i = 1; i < 3; i++) {
		double rate = bench_median(&v[i].rate);
		low = rate < low ? rate : low;
		high = rate > high ? rate : high;
	}
	print(v, 3);
	bench_bar("T5", "100 k, 1 M, 10 M: fastest to slowest", high / low, false, 1.5, "times");
}

static void outstanding(void *pool)
{
	struct variant v[] = {
		{ &bench_ours, "1 M tasks, 32 Ki outstanding, 1 worker", pool, MILLION, WINDOW, 1, { .n = 0 } },
		{ &bench_ours, "1 M outstanding before the first result, 1 worker", pool, MILLION, 1 << 20, 1, { .n = 0 } },
	};
	double r;

	run_rounds(v, 2, bench_rounds(7));
	r = ratio(&v[1], &v[0]);
	print(v, 2);
	bench_bar("T6", "1 M outstanding against 32 Ki", r, true, 0.4, "times");
}

static void workers(void)
{
	struct variant v[] = {
		{ &bench_ours, "2 workers", bench_ours.open(NULL, 2), MILLION, WINDOW, 1, { .n = 0 } },
		{ &bench_ours, "8 workers", bench_ours.open(NULL, 8), MILLION, WINDOW, 1, { .n = 0 } },
		{ &bench_ours, "64 workers", bench_ours.open(NULL, 64), MILLION, WINDOW, 1, { .n = 0 } },
	};
	double eight, many;

	run_rounds(v, 3, bench_rounds(11));
	eight = ratio(&v[1], &v[0]);
	many = ratio(&v[2], &v[0]);
	print(v, 3);
	bench_bar("T7", "8 workers against 2", eight, true, 0.5, "times");
	bench_bar("T7", "64 workers against 2", many, true, 0.5, "times");
	for (int i = 0; i < 3; i++)
		bench_ours.close(v[i].pool);
}

static void threads(void)
{
	static struct bare bare = { .lock = PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP };
	void *pool = bench_ours.open(NULL, 2);
	struct variant v[] = {
		{ &bench_ours, "1 thread submits, 2 workers", pool, MILLION, WINDOW, 1, { .n = 0 } },
		{ &bench_ours, "4 threads submit, 2 workers", pool, MILLION, WINDOW, THREADS, { .n = 0 } },
		{ &bare_lock, "turns, 1 thread", &bare, 4 * MILLION, WINDOW, 1, { .n = 0 } },
		{ &bare_lock, "turns, 4 threads", &bare, 4 * MILLION, WINDOW, THREADS, { .n = 0 } },
	};
	char part[96];
	double r, limit;

	run_rounds(v, 4, bench_rounds(11));
	r = ratio(&v[1], &v[0]);
	limit = ratio(&v[3], &v[2]);
	print(v, 4);
	snprintf(part, sizeof part, "4 threads against 1, where a bare lock and four lines have %.2g times", limit);
	bench_bar("T8", part, r, true, 0.9, "times");
	bench_ours.close(pool);
}

static void one_worker(void)
{
	void *pool = bench_ours.open(NULL, 1);

	if (bench_picked("T5"))
		totals(pool);
	if (bench_picked("T6"))
		outstanding(pool);
	bench_ours.close(pool);
}

/* The arguments, when there are any, are the bars to measure. */
int main(int argc, char **argv)
{
	bench_pick(argc, argv);
	one_worker();
	if (bench_picked("T7"))
		workers();
	if (bench_picked("T8"))
		threads();
	return 0;
}
