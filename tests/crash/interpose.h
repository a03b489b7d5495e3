/* SPDX-License-Identifier: MIT */
/*
 * Calls that fail on request. The program is linked with --wrap for each of these, so that the library's own calls come
 * here, and the supervisor and the workers, which are forks of it, take the wrappers along. Calls are counted in shared
 * memory, per call and per role, because the processes of a pool run side by side: so the N-th mmap of the supervisor is
 * the same one in every run.
 */
#ifndef TESTS_CRASH_INTERPOSE_H
#define TESTS_CRASH_INTERPOSE_H

#include <stdbool.h>
#include <stddef.h>

#define INTERPOSED(X) \
	X(fork) X(mmap) X(madvise) X(mprotect) X(open) X(shm_open) X(memfd_create) X(ftruncate) X(fallocate) X(fstat) \
	X(getrandom) X(pipe2) X(pidfd_open) X(pthread_create) X(malloc) X(calloc) X(aligned_alloc) \
	X(realloc) X(vasprintf) X(strdup) \
	X(sigaltstack) X(on_exit) X(dup2) X(read) X(write) X(waitpid) X(poll) X(ppoll) X(fopen) X(opendir)

enum call {
#define X(name) CALL_##name,
	INTERPOSED(X)
#undef X
	CALLS
};

/* By how many forks the process is away from the application. */
enum role { APPLICATION, BETWEEN, SUPERVISOR, WORKER, ROLES };

/* errors end with 0. Those of once say "try again": no kernel says so for ever. */
struct call_about { const char *name; int errors[8]; int once[4]; };
extern const struct call_about call_about[CALLS];
extern const char *const role_names[ROLES];

/* The first n - 1 calls of that role succeed, then one fails, or all of them. */
struct failure { enum call call; enum role role; long n; int error; bool for_ever; };

/* In the test, before it starts the application: fresh counters, which the application inherits. */
void interpose_prepare(void);
void interpose_begin(const struct failure *failure);     /* in the application; NULL: only counts */
void interpose_end(void);
/* What a kernel without MADV_POPULATE_WRITE, O_TMPFILE, memfd_create and pidfd_open is like. */
void interpose_old_kernel(bool old);
/* In the test: calls of that role in the application that was started last. */
long interpose_count(enum call call, enum role role);
/* Blocks that the application has allocated and not freed since interpose_begin. */
long interpose_blocks(void);

#endif
