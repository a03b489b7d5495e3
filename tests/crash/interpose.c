/* SPDX-License-Identifier: MIT */
/* The wrappers; see interpose.h. Memory is counted to find leaks, so free is wrapped too, and never fails. */
#include "interpose.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

const char *const role_names[ROLES] = { "application", "fork in between", "supervisor", "worker" };

const struct call_about call_about[CALLS] = {
	[CALL_fork] = { "fork", { EAGAIN, ENOMEM }, { 0 } },
	[CALL_mmap] = { "mmap", { ENOMEM, EAGAIN, EPERM, ENFILE }, { 0 } },
	[CALL_madvise] = { "madvise", { ENOMEM, EFAULT, ENOSPC, EIO, EPERM, EINVAL }, { EINTR, EAGAIN } },
	[CALL_mprotect] = { "mprotect", { ENOMEM, EACCES }, { 0 } },
	[CALL_open] = { "open", { EMFILE, ENFILE, ENOMEM, ENOENT, EACCES, EOPNOTSUPP, ENOSPC }, { EINTR } },
	[CALL_shm_open] = { "shm_open", { EMFILE, ENFILE, ENOMEM, ENOSPC, EACCES, ENOENT }, { 0 } },
	[CALL_memfd_create] = { "memfd_create", { EMFILE, ENFILE, ENOMEM, EPERM, ENOSYS }, { 0 } },
	[CALL_ftruncate] = { "ftruncate", { EFBIG, ENOSPC, EIO, EPERM, EINVAL }, { EINTR } },
	[CALL_fallocate] = { "fallocate", { ENOSPC, ENOMEM, EIO, EPERM, EOPNOTSUPP }, { EINTR } },
	[CALL_fstat] = { "fstat", { ENOMEM, EIO }, { 0 } },
	[CALL_getrandom] = { "getrandom", { ENOSYS, EPERM }, { EINTR, EAGAIN } },
	[CALL_pipe2] = { "pipe2", { EMFILE, ENFILE, ENOMEM }, { 0 } },
	[CALL_pidfd_open] = { "pidfd_open", { EMFILE, ENFILE, ENOMEM, ENODEV, EPERM, ENOSYS }, { 0 } },
	[CALL_pthread_create] = { "pthread_create", { EAGAIN, EPERM, ENOMEM }, { 0 } },
	[CALL_malloc] = { "malloc", { ENOMEM }, { 0 } },
	[CALL_calloc] = { "calloc", { ENOMEM }, { 0 } },
	[CALL_aligned_alloc] = { "aligned_alloc", { ENOMEM }, { 0 } },
	[CALL_realloc] = { "realloc", { ENOMEM }, { 0 } },
	[CALL_vasprintf] = { "vasprintf", { ENOMEM }, { 0 } },
	[CALL_strdup] = { "strdup", { ENOMEM }, { 0 } },
	[CALL_sigaltstack] = { "sigaltstack", { ENOMEM, EPERM }, { 0 } },
	[CALL_on_exit] = { "on_exit", { ENOMEM }, { 0 } },
	[CALL_dup2] = { "dup2", { EMFILE }, { EBUSY, EINTR } },
	[CALL_read] = { "read", { 0 }, { EINTR, EIO } },
	[CALL_write] = { "write", { 0 }, { EINTR, EIO } },
	[CALL_waitpid] = { "waitpid", { 0 }, { EINTR, ECHILD } },
	[CALL_poll] = { "poll", { 0 }, { EINTR, ENOMEM } },
	[CALL_ppoll] = { "ppoll", { 0 }, { EINTR, ENOMEM } },
	[CALL_fopen] = { "fopen", { EMFILE, ENOMEM }, { 0 } },
	[CALL_opendir] = { "opendir", { EMFILE, ENOMEM }, { 0 } },
};

static struct {
	struct failure failure;
	bool fails;
	atomic_long counts[CALLS][ROLES], blocks;
} *shared;
static enum role role;
static bool on, old_kernel;      /* private: the test itself never fails */

void interpose_begin(const struct failure *failure)
{
	role = APPLICATION;
	shared->fails = failure != NULL;
	if (failure)
		shared->failure = *failure;
	on = true;
}

void interpose_end(void) { on = false; }
void interpose_old_kernel(bool old) { old_kernel = old; }
long interpose_count(enum call call, enum role of) { return shared->counts[call][of]; }
long interpose_blocks(void) { return shared->blocks; }

/* 0, or the errno with which this call is to fail. */
static int fails(enum call call)
{
	const struct failure *f;
	long n;

	if (!on)
		return 0;
	n = atomic_fetch_add(&shared->counts[call][role], 1) + 1;
	f = &shared->failure;
	if (!shared->fails || f->call != call || f->role != role)
		return 0;
	return n == f->n || (f->for_ever && n > f->n) ? f->error : 0;
}

/* Whether it has failed, with errno set. */
static bool has_failed(enum call call)
{
	int error = fails(call);

	if (error)
		errno = error;
	return error != 0;
}

static void *count_block(void *block, int n)
{
	if (block && on && role == APPLICATION)
		atomic_fetch_add(&shared->blocks, n);
	return block;
}

static bool too_old(bool condition, int error)
{
	if (old_kernel && condition)
		errno = error;
	return old_kernel && condition;
}

/* A wrapper's name, and that of what it wraps. */
#define WRAP(type, name, parameters) \
	type __real_##name parameters; \
	type __wrap_##name parameters; \
	type __wrap_##name parameters
#define SIMPLE(type, name, parameters, arguments, failed) \
	WRAP(type, name, parameters) { return has_failed(CALL_##name) ? failed : __real_##name arguments; }

WRAP(pid_t, fork, (void))
{
	pid_t pid = has_failed(CALL_fork) ? -1 : __real_fork();

	if (pid == 0 && role < WORKER)
		role++;
	return pid;
}

SIMPLE(void *, mmap, (void *at, size_t size, int prot, int flags, int fd, off_t offset),
       (at, size, prot, flags, fd, offset), MAP_FAILED)

WRAP(int, madvise, (void *at, size_t size, int advice))
{
	if (too_old(advice == 23, EINVAL))       /* MADV_POPULATE_WRITE */
		return -1;
	return has_failed(CALL_madvise) ? -1 : __real_madvise(at, size, advice);
}

SIMPLE(int, mprotect, (void *at, size_t size, int prot), (at, size, prot), -1)

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
	mode_t mode = 0;
	va_list list;

	if (flags & (O_CREAT | O_TMPFILE)) {
		va_start(list, flags);
		mode = va_arg(list, mode_t);
		va_end(list);
	}
	if (too_old((flags & O_TMPFILE) == O_TMPFILE, EOPNOTSUPP))
		return -1;
	return has_failed(CALL_open) ? -1 : __real_open(path, flags, mode);
}

SIMPLE(int, shm_open, (const char *name, int flags, mode_t mode), (name, flags, mode), -1)

WRAP(int, memfd_create, (const char *name, unsigned flags))
{
	if (too_old(true, ENOSYS))
		return -1;
	return has_failed(CALL_memfd_create) ? -1 : __real_memfd_create(name, flags);
}

SIMPLE(int, ftruncate, (int fd, off_t size), (fd, size), -1)
SIMPLE(int, fallocate, (int fd, int mode, off_t offset, off_t size), (fd, mode, offset, size), -1)
SIMPLE(int, fstat, (int fd, struct stat *st), (fd, st), -1)
SIMPLE(ssize_t, getrandom, (void *to, size_t size, unsigned flags), (to, size, flags), -1)
SIMPLE(int, pipe2, (int fds[2], int flags), (fds, flags), -1)

long __real_syscall(long number, ...);
long __wrap_syscall(long number, ...);
long __wrap_syscall(long number, ...)
{
	va_list list;
	long a[6];

	va_start(list, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(list, long);
	va_end(list);
	if (number == SYS_pidfd_open && (too_old(true, ENOSYS) || has_failed(CALL_pidfd_open)))
		return -1;
	return __real_syscall(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

WRAP(int, pthread_create, (pthread_t *thread, const pthread_attr_t *attr, void *(*main)(void *), void *context))
{
	int error = fails(CALL_pthread_create);

	return error ? error : __real_pthread_create(thread, attr, main, context);
}

WRAP(void *, malloc, (size_t size))
{
	return has_failed(CALL_malloc) ? NULL : count_block(__real_malloc(size), 1);
}

WRAP(void *, aligned_alloc, (size_t alignment, size_t size))
{
	return has_failed(CALL_aligned_alloc) ? NULL : count_block(__real_aligned_alloc(alignment, size), 1);
}

WRAP(void *, calloc, (size_t n, size_t size))
{
	return has_failed(CALL_calloc) ? NULL : count_block(__real_calloc(n, size), 1);
}

WRAP(void *, realloc, (void *block, size_t size))
{
	return has_failed(CALL_realloc) ? NULL : count_block(__real_realloc(block, size), block ? 0 : 1);
}

WRAP(void, free, (void *block))
{
	count_block(block, -1);
	__real_free(block);
}

WRAP(char *, strdup, (const char *text))
{
	return has_failed(CALL_strdup) ? NULL : count_block(__real_strdup(text), 1);
}

WRAP(int, vasprintf, (char **text, const char *format, va_list list))
{
	int n = has_failed(CALL_vasprintf) ? -1 : __real_vasprintf(text, format, list);

	if (n >= 0)
		count_block(*text, 1);
	return n;
}

SIMPLE(int, sigaltstack, (const stack_t *stack, stack_t *old), (stack, old), -1)
SIMPLE(int, on_exit, (void (*fn)(int, void *), void *context), (fn, context), -1)
SIMPLE(int, dup2, (int from, int to), (from, to), -1)
SIMPLE(ssize_t, read, (int fd, void *to, size_t size), (fd, to, size), -1)
SIMPLE(ssize_t, write, (int fd, const void *from, size_t size), (fd, from, size), -1)
SIMPLE(pid_t, waitpid, (pid_t pid, int *status, int options), (pid, status, options), -1)
SIMPLE(int, poll, (struct pollfd *fds, nfds_t n, int timeout), (fds, n, timeout), -1)
SIMPLE(int, ppoll, (struct pollfd *fds, nfds_t n, const struct timespec *timeout, const sigset_t *mask),
       (fds, n, timeout, mask), -1)
SIMPLE(FILE *, fopen, (const char *path, const char *mode), (path, mode), NULL)
SIMPLE(DIR *, opendir, (const char *path), (path), NULL)

void interpose_prepare(void)
{
	if (shared)
		munmap(shared, sizeof *shared);
	shared = __real_mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		abort();
}
