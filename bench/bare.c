/* SPDX-License-Identifier: MIT */
/*
 * The bare partner: a process and two process-shared semaphores, or two words that are looked at all the time, and nothing
 * else. What a round trip over them costs is what the kernel asks for waking two processes in turn, or what the hardware
 * asks for moving two cache lines.
 */
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bench.h"

struct bench_bare {
	sem_t            ping;
	_Atomic uint32_t ping_word;
	char             line[64];       /* what each side writes is on a line of its own */
	sem_t            pong;
	_Atomic uint32_t pong_word;
	pid_t            pid;
	bool             spinning;
};

static void await_word(_Atomic uint32_t *word, uint32_t value)
{
	while (atomic_load_explicit(word, memory_order_acquire) != value)
		bench_pause();
}

static void answer(struct bench_bare *bare)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (uint32_t turn = 1; ; turn++) {
		if (bare->spinning) {
			await_word(&bare->ping_word, turn);
			atomic_store_explicit(&bare->pong_word, turn, memory_order_release);
			continue;
		}
		while (sem_wait(&bare->ping) < 0)
			;
		sem_post(&bare->pong);
	}
}

struct bench_bare *bench_bare_start(int cpu, bool spinning)
{
	struct bench_bare *bare = mmap(NULL, sizeof *bare, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid;

	if (bare == MAP_FAILED || sem_init(&bare->ping, 1, 0) < 0 || sem_init(&bare->pong, 1, 0) < 0)
		bench_die("no shared memory");
	bare->spinning = spinning;
	bench_pin(cpu);
	pid = fork();
	if (pid < 0)
		bench_die("fork");
	if (pid == 0)
		answer(bare);
	bare->pid = pid;                 /* in shared memory: the child does not write it */
	bench_pin(0);
	return bare;
}

void bench_bare_round_trip(struct bench_bare *bare)
{
	if (bare->spinning) {
		uint32_t turn = atomic_load_explicit(&bare->ping_word, memory_order_relaxed) + 1;
		atomic_store_explicit(&bare->ping_word, turn, memory_order_release);
		await_word(&bare->pong_word, turn);
		return;
	}
	sem_post(&bare->ping);
	while (sem_wait(&bare->pong) < 0)
		;
}

void bench_bare_stop(struct bench_bare *bare)
{
	kill(bare->pid, SIGKILL);
	waitpid(bare->pid, NULL, 0);
	munmap(bare, sizeof *bare);
}
