/* SPDX-License-Identifier: MIT */
/* Ways for a task to take its process with it. Built without sanitizers, which would end it their own way. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
#include "support.h"

static volatile int zero, one = 1;
static volatile uintptr_t bad_address = 16;

static void die_bus(void)
{
	int fd = memfd_create("short", 0);
	volatile char *p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	p[0] = 1;
}

/* Every frame is used after the call, so that no compiler makes a loop of it. */
__attribute__((noinline)) static int recurse(int depth)
{
	volatile char frame[4096];

	frame[depth % 4096] = (char)depth;
	if (depth < 0)
		return 0;
	return recurse(depth + 1) + frame[depth % 4096];
}

/* With the allocator of a sanitizer there is no header before the chunk: it ends as that of glibc does. */
extern void __asan_init(void) __attribute__((weak));

static void die_heap(void)
{
	void *chunk = malloc(64);
	volatile uintptr_t header = (uintptr_t)chunk - sizeof(size_t);

	if (__asan_init)
		abort();
	*(volatile size_t *)header = 0x7fffffff1;
	free(chunk);
}

/* The child comes back from the task; its parent waits for it, and then ends the task in good order. */
static int die_child_returns(pp_task *task)
{
	pid_t pid = fork();
	int status = 0;

	if (pid == 0)
		return pp_return(task, "child", 5);
	waitpid(pid, &status, 0);
	return pp_return(task, "parent", 6);
}

static void die_by_signal(enum death how)
{
	switch (how) {
	case DIE_SEGV: *(volatile int *)bad_address = 1; break;
	case DIE_ABRT: abort();
	case DIE_KILL: raise(SIGKILL); break;
	case DIE_FPE: zero = one / zero; break;
	case DIE_BUS: die_bus(); break;
	case DIE_ILL: __builtin_trap();
	case DIE_STACK: zero = recurse(0); break;
	case DIE_HEAP: die_heap(); break;
	default: break;
	}
}

int task_die(pp_task *task, const void *data, size_t size)
{
	int how = -1;

	if (size != sizeof how)
		return pp_raise(task, 22, "bad argument");
	memcpy(&how, data, sizeof how);
	die_by_signal((enum death)how);
	switch (how) {
	case DIE_EXIT0: exit(0);
	case DIE_EXIT99: exit(99);
	case DIE__EXIT: _exit(3);
	case DIE_QUICK_EXIT: quick_exit(4);
	case DIE_PTHREAD_EXIT: pthread_exit(NULL);
	case DIE_EXEC: execl("/bin/sleep", "sleep", "1000", (char *)NULL); break;
	case DIE_CHILD_RETURNS: return die_child_returns(task);
	default: break;
	}
	return pp_raise(task, 1, "still alive after %d", how);
}
