/* SPDX-License-Identifier: MIT */
/*
 * The bare partner: a process and two process-shared semaphores, nothing else. What a round trip over them costs is what
 * the kernel asks for waking two processes in turn.
 */
#include <semaphore.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>
#include "bench.h"

struct bench_bare {
	sem_t ping;
	char  line[64];                  /* the two are on lines of their own */
	sem_t pong;
	pid_t pid;
};

static void answer(struct bench_bare *bare)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (;;) {
		while (sem_wait(&bare->ping) < 0)
			;
		sem_post(&bare->pong);
	}
}

struct bench_bare *bench_bare_start(int cpu)
{
	struct bench_bare *bare = mmap(NULL, sizeof *bare, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	pid_t pid;

	if (bare == MAP_FAILED || sem_init(&bare->ping, 1, 0) < 0 || sem_init(&bare->pong, 1, 0) < 0)
		bench_die("no shared memory");
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
