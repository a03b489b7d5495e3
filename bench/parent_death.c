/* SPDX-License-Identifier: MIT */
/*
 * R1: a process with a pool of two workers, one of them in a task, is ended by SIGKILL; counted is how long it takes
 * until that process, the supervisor and all workers are gone, and with them, which is checked, every mapping of
 * their shared memory. The same once more with 1 GiB of touched heap, where what the kernel needs to take such a
 * process down stands beside it, without a pool.
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "proc.h"

#define GIB     (UINT64_C(1) << 30)
#define GUARD_MS 20000

struct told {
	uint64_t inode;                          /* of the shared memory; 0: no pool */
	int      count;
	pid_t    pids[PROC_MOST];
};

static int sleep_on(pp_task *task, const void *data, size_t size)
{
	(void)task;
	(void)data;
	(void)size;
	return pause();                          /* which ends by a signal only */
}

static void application(int fd, size_t heap, bool pool)
{
	struct told told = { .count = 0 };
	pp_executor *executor;

	if (heap)
		bench_heap(heap);
	if (pool) {
		executor = bench_executor(2, PP_START_ALL);
		bench_ours.run(executor, 4096, 1024);
		if (pp_submit(executor, sleep_on, NULL, 0, NULL) < 0)
			bench_die("pp_submit");
		told.count = proc_of_pool(executor, told.pids);
		told.inode = proc_largest_shared();
	}
	if (write(fd, &told, sizeof told) != sizeof told)
		bench_die("a pipe could not be written");
	for (;;)
		pause();
}

static struct pollfd watch(pid_t pid)
{
	struct pollfd p = { .fd = (int)syscall(SYS_pidfd_open, pid, 0), .events = POLLIN };

	if (p.fd < 0)
		bench_die("no pidfd of %d", (int)pid);
	return p;
}

static void await_all(struct pollfd *watched, int count)
{
	for (int i = 0; i < count; i++) {
		if (poll(watched + i, 1, GUARD_MS) != 1)
			bench_die("a process outlived its parent");
		close(watched[i].fd);
	}
}

/* Milliseconds from the signal until all have gone. */
static double kill_one(size_t heap, bool pool)
{
	struct pollfd watched[PROC_MOST + 1];
	struct told told;
	int64_t before, took;
	int fds[2], count = 0;
	pid_t pid;

	if (pipe(fds) < 0)
		bench_die("pipe");
	pid = fork();
	if (pid == 0)
		application(fds[1], heap, pool);
	if (pid < 0 || read(fds[0], &told, sizeof told) != sizeof told)
		bench_die("the process to be killed did not start");
	watched[count++] = watch(pid);
	for (int i = 0; i < told.count; i++)
		watched[count++] = watch(told.pids[i]);
	bench_sleep(50000000);
	before = bench_now();
	kill(pid, SIGKILL);
	await_all(watched, count);
	took = bench_now() - before;
	waitpid(pid, NULL, 0);
	close(fds[0]);
	close(fds[1]);
	if (told.inode && proc_anyone_maps(told.inode))
		bench_die("shared memory outlived its processes");
	return (double)took / 1e6;
}

int main(void)
{
	struct bench_samples small = { .n = 0 }, large = { .n = 0 }, kernel = { .n = 0 };
	int rounds = bench_rounds(7);

	for (int i = 0; i < rounds; i++) {
		bench_add(&small, kill_one(0, true));
		if (i % 3)
			continue;        /* to touch such a heap takes longer than all the rest */
		bench_add(&large, kill_one(GIB, true));
		bench_add(&kernel, kill_one(GIB, false));
	}
	bench_line("procpool", "SIGKILL of the parent until all is gone", "ms", &small);
	bench_line("procpool", "SIGKILL of the parent until all is gone, 1 GiB heap", "ms", &large);
	bench_line("no pool", "SIGKILL until it is gone, 1 GiB heap", "ms", &kernel);
	bench_bar("R1", "small heap", bench_median(&small), false, 100, "ms");
	return 0;
}
