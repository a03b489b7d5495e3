/* SPDX-License-Identifier: MIT */
/*
 * The reference: one lasting worker, one shared memory, two words, and nothing that could go wrong is thought of. It
 * waits as the library does: it looks for a while, which adapts between 1 and 50 us, and then sleeps, here in a
 * futex. In place both sides work on the shared bytes; copying, the caller copies in, and the worker makes its answer
 * in memory of its own and copies it out. The library has to do what this does, and be crash-proof with it.
 */
#include <linux/futex.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "payload.h"

#define SPIN_MAX_NS INT64_C(50000)
#define SPIN_MIN_NS INT64_C(1000)

struct door { _Alignas(128) _Atomic uint32_t turn; _Atomic uint32_t sleeps; };  /* one for each direction */

struct shared {
	struct door ask, answer;
	_Alignas(128) enum payload_mode mode;
	uint64_t sum;
};

struct reference {
	struct shared *shared;
	char          *in, *out;
	const void    *source;
	size_t         size;
	uint64_t       sum, place_sum;           /* of the source; of what stands in place */
	int64_t        budget;                   /* nanoseconds to look for */
	bool           apart;                    /* the two run on two CPUs: looking can pay */
	pid_t          pid;
};

static void open_door(struct door *door)
{
	atomic_fetch_add(&door->turn, 1);
	if (atomic_load(&door->sleeps))
		syscall(SYS_futex, &door->turn, FUTEX_WAKE, 1, NULL, NULL, 0);
}

static bool look(struct door *door, uint32_t old, int64_t until)
{
	do {
		for (int i = 0; i < 32; i++, bench_pause())
			if (atomic_load_explicit(&door->turn, memory_order_acquire) != old)
				return true;
	} while (bench_now() < until);
	return false;
}

static void await_door(struct reference *r, struct door *door, uint32_t old)
{
	int64_t before = bench_now();

	if (r->apart && look(door, old, before + r->budget))
		return;
	before = bench_now();
	atomic_store(&door->sleeps, 1);
	while (atomic_load(&door->turn) == old)
		syscall(SYS_futex, &door->turn, FUTEX_WAIT, old, NULL, NULL, 0);
	atomic_store(&door->sleeps, 0);
	r->budget = bench_now() - before < 2 * SPIN_MAX_NS ? 2 * r->budget : r->budget / 2;
	r->budget = r->budget > SPIN_MAX_NS ? SPIN_MAX_NS : r->budget < SPIN_MIN_NS ? SPIN_MIN_NS : r->budget;
}

static void serve(struct reference *r)
{
	char *own = payload_fill(r->size);
	uint32_t turn = 0;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;; turn++) {
		await_door(r, &r->shared->ask, turn);
		if (r->shared->mode == PAYLOAD_ECHO_PLACE)
			payload_flip(r->in, r->in, r->size);
		else if (r->shared->mode == PAYLOAD_ECHO_COPY) {
			payload_flip(own, r->in, r->size);
			memcpy(r->out, own, r->size);
		} else
			r->shared->sum = payload_sum(r->in, r->size);
		open_door(&r->shared->answer);
	}
}

static void *reference_open(const char *name, const void *source, size_t size, int cpu)
{
	struct reference *r = calloc(1, sizeof *r);

	(void)name;
	if (!r)
		bench_die("no memory");
	r->shared = mmap(NULL, 4096 + 2 * size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	if (r->shared == MAP_FAILED)
		bench_die("no shared memory");
	r->out = (r->in = (char *)r->shared + 4096) + size;
	r->source = source;
	r->size = size;
	r->sum = r->place_sum = payload_sum(source, size);
	memcpy(r->in, source, size);
	r->budget = SPIN_MAX_NS;
	r->apart = cpu != 0;
	bench_pin(cpu);
	if ((r->pid = fork()) == 0)
		serve(r);
	bench_pin(0);
	return r;
}

static int64_t reference_run(void *context, enum payload_mode mode, long trips)
{
	struct reference *r = context;
	bool copy = payload_copies(mode), echo = payload_echoes(mode);
	int64_t start = bench_now();

	for (long i = 0; i < trips; i++) {
		uint32_t turn = atomic_load(&r->shared->answer.turn);
		uint64_t expected = copy ? r->sum : r->place_sum, got;
		if (copy)
			memcpy(r->in, r->source, r->size);
		r->shared->mode = mode;
		open_door(&r->shared->ask);
		await_door(r, &r->shared->answer, turn);
		got = echo ? payload_sum(copy ? r->out : r->in, r->size) : r->shared->sum;
		payload_check("reference", mode, r->size, expected, got);
		r->place_sum = mode == PAYLOAD_ECHO_PLACE ? got : copy ? r->sum : r->place_sum;
	}
	return bench_now() - start;
}

static void reference_close(void *context)
{
	struct reference *r = context;

	kill(r->pid, SIGKILL);
	waitpid(r->pid, NULL, 0);
	munmap(r->shared, 4096 + 2 * r->size);
	free(r);
}

const struct payload_side payload_reference = {
	"bare shared memory", reference_open, reference_run, reference_close, 15
};
