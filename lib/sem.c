/* SPDX-License-Identifier: MIT */
/*
 * The kernel looks at the token once more before it lets anybody sleep, so no post comes in between. Errors of futex(2)
 * that glibc would end the process for are taken as "look again".
 */
#include "sem.h"
#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "sysdep.h"

void pp__sem_post(struct pp__sem *sem)
{
	int saved = errno;

	atomic_store(&sem->token, 1);
	syscall(SYS_futex, &sem->token, FUTEX_WAKE, 1, NULL, NULL, 0);
	errno = saved;
}

bool pp__sem_trywait(struct pp__sem *sem)
{
	return atomic_load_explicit(&sem->token, memory_order_relaxed) && atomic_exchange(&sem->token, 0);
}

/* true: woken, or there may be a token; false: the deadline has passed. */
static bool sleep_until(struct pp__sem *sem, int64_t deadline_ns)
{
	struct timespec t = { .tv_sec = deadline_ns / 1000000000, .tv_nsec = deadline_ns % 1000000000 };
	int saved = errno;
	bool timed_out;

	timed_out = syscall(SYS_futex, &sem->token, FUTEX_WAIT_BITSET, 0, deadline_ns == PP__NEVER ? NULL : &t, NULL,
	                    FUTEX_BITSET_MATCH_ANY) < 0 && errno == ETIMEDOUT;
	errno = saved;
	return !timed_out;
}

bool pp__sem_wait(struct pp__sem *sem, int64_t deadline_ns)
{
	bool in_time = true, taken;

	while (!(taken = pp__sem_trywait(sem)) && in_time)
		in_time = sleep_until(sem, deadline_ns);
	return taken;
}
