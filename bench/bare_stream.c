/* SPDX-License-Identifier: MIT */
/*
 * The bare limit of a stream of tasks: a lasting worker over shared memory, and of what the library does for a task only
 * what the hardware asks for. The caller fills a line with function and number, and makes another READY; a worker takes
 * it, calls the function, and publishes result and two time stamps there; the caller checks it. No lock, no wake, no check,
 * no owner: a worker that died would stop it all. Both sides look all the time while it runs.
 */
#include <signal.h>
#include <stdalign.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bench.h"

#define SLOTS   32768u
#define WORKERS 2

enum { READY = 1, DONE = 2 };            /* beside the number of the task, from bit 2 on */

struct cell {
	alignas(64) _Atomic uint64_t word;
	uint64_t result, start, end;
};

struct desc {
	alignas(64) uint64_t (*fn)(uint64_t);
	uint64_t in;
};

struct stream {
	alignas(64) _Atomic uint64_t head;       /* the next task to be taken; workers' */
	alignas(64) uint64_t tail;               /* the caller's */
	_Atomic bool running;                    /* else the other side has its turn, and the CPU */
	int         workers;
	pid_t       pids[WORKERS];
	struct cell cells[SLOTS];
	struct desc descs[SLOTS];
};

static uint64_t ticks(void)
{
#if defined __x86_64__
	return __builtin_ia32_rdtsc();
#else
	return (uint64_t)bench_now();
#endif
}

static uint64_t next_of(uint64_t in) { return in + 1; }

static void await(_Atomic uint64_t *word, uint64_t value)
{
	while (atomic_load_explicit(word, memory_order_acquire) != value)
		bench_pause();
}

static void work(struct stream *s)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		uint64_t task = s->workers > 1 ? atomic_fetch_add(&s->head, 1) : s->head++;
		struct cell *cell = s->cells + task % SLOTS;
		const struct desc *desc = s->descs + task % SLOTS;

		__builtin_prefetch(s->cells + (task + 2) % SLOTS, 1);
		__builtin_prefetch(s->descs + (task + 2) % SLOTS);
		while (atomic_load_explicit(&cell->word, memory_order_acquire) != (task << 2 | READY))
			if (atomic_load_explicit(&s->running, memory_order_relaxed))
				bench_pause();
			else
				bench_sleep(50000);
		cell->start = ticks();
		cell->result = desc->fn(desc->in);
		cell->end = ticks();
		atomic_store_explicit(&cell->word, task << 2 | DONE, memory_order_release);
	}
}

static void *stream_open(const char *name, int workers)
{
	struct stream *s = mmap(NULL, sizeof *s, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	(void)name;
	if (s == MAP_FAILED || workers > WORKERS)
		bench_die("bare stream");
	s->workers = workers;
	for (int i = 0; i < workers; i++) {
		pid_t pid = fork();
		if (pid < 0)
			bench_die("fork");
		if (pid == 0)
			work(s);
		s->pids[i] = pid;
	}
	return s;
}

static void submit(struct stream *s, uint64_t task)
{
	s->descs[task % SLOTS].fn = next_of;
	s->descs[task % SLOTS].in = task;
	s->cells[task % SLOTS].start = ticks();
	atomic_store_explicit(&s->cells[task % SLOTS].word, task << 2 | READY, memory_order_release);
}

static void take(struct stream *s, uint64_t task)
{
	struct cell *cell = s->cells + task % SLOTS;

	__builtin_prefetch(s->cells + (task + 2) % SLOTS, 1);
	await(&cell->word, task << 2 | DONE);
	if (cell->result != task + 1 || cell->end < cell->start)
		bench_die("bare stream: a wrong result");
}

static int64_t stream_run(void *pool, long n, long window)
{
	struct stream *s = pool;
	int64_t start;

	s->running = true;
	bench_sleep(200000);             /* they have heard of it */
	start = bench_now();
	for (long i = 0; i < n + window; i++) {
		if (i >= window)
			take(s, s->tail + (uint64_t)(i - window));
		if (i < n)
			submit(s, s->tail + (uint64_t)i);
	}
	s->tail += (uint64_t)n;
	start = bench_now() - start;
	s->running = false;
	return start;
}

static void stream_close(void *pool)
{
	struct stream *s = pool;

	for (int i = 0; i < s->workers; i++) {
		kill(s->pids[i], SIGKILL);
		waitpid(s->pids[i], NULL, 0);
	}
	munmap(s, sizeof *s);
}

const struct bench_side bench_bare_stream = { "bare shared memory", stream_open, stream_run, stream_close };
