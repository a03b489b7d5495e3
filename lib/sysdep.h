/* SPDX-License-Identifier: MIT */
/*
 * What differs between kernels, each with its fallback: pidfd_open (5.3), MADV_WIPEONFORK (4.14).
 * And time. Nothing here knows of executors.
 */
#ifndef PP_LIB_SYSDEP_H
#define PP_LIB_SYSDEP_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <unistd.h>
#include "procpool.h"

#define PP__NEVER INT64_MAX      /* an absolute deadline that does not come */

int64_t pp__now_ns(void);                                /* CLOCK_MONOTONIC */
int64_t pp__deadline_ns(int64_t timeout_ms);             /* absolute; saturates; PP_FOREVER: PP__NEVER */
static inline bool pp__time_is_valid(int64_t timeout_ms) { return timeout_ms >= PP_FOREVER; }

/* No call of the library is a cancellation point: around what may block in one. */
int  pp__cancel_hold(void);
void pp__cancel_restore(int state);

/* Waits on a condition variable of this process until the absolute deadline; may return early. */
void pp__cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex, int64_t deadline_ns);

/* A descriptor that polls readable when the process ends; -1 and errno where the kernel has none. */
int  pp__pidfd_open(pid_t pid);
/* For tests of the fallback: pp__pidfd_open fails with ENOSYS from here on in this process and its children. */
void pp__pidfd_forbid(bool forbid);

/* Identity and life of a process that may not be our child, from /proc/PID/stat. */
struct pp__identity { pid_t pid; uint64_t start_ticks; };        /* start_ticks 0: not known */
struct pp__identity pp__identify(pid_t pid);
/* A zombie counts as dead, and so does another process with the same number. */
bool pp__is_alive(const struct pp__identity *identity);

/* Whether a process whose main thread has lost its mutexes still executes something: another image, after exec, or other
 * threads, after pthread_exit. One that is being torn down does not, however long that takes. */
bool pp__lives_on(pid_t pid);
/* Whether the kernel writes its core file. */
bool pp__is_dumping(pid_t pid);

/*
 * A word that holds 1 in the worker that asked for it, and 0 in every child that it makes by fork(2) later; NULL where the
 * kernel cannot wipe pages. The same cost as reading memory, where getpid(2) is a system call. It stands behind the one of
 * the original process, on whose page there is nothing in a worker: one page less to make at its birth.
 */
_Atomic int *pp__worker_mark(void);
static inline bool pp__is_owner_process(const _Atomic int *mark, pid_t pid)
{
	return mark ? atomic_load_explicit(mark, memory_order_relaxed) == 1 : getpid() == pid;
}

/* Whether this is the process that first called it, or a thread of it: false in every child made by fork(2). */
bool pp__is_original_slowly(void);
extern _Atomic(_Atomic int *) pp__original_mark; /* NULL before the first look, and where the kernel has no such pages */

static inline bool pp__is_original_process(void)
{
	const _Atomic int *mark = atomic_load_explicit(&pp__original_mark, memory_order_acquire);

	return (mark && atomic_load_explicit(mark, memory_order_relaxed) == 1) || pp__is_original_slowly();
}

#endif
