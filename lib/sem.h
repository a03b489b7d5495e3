/* SPDX-License-Identifier: MIT */
/*
 * A token in shared memory that processes sleep for. glibc's sem_t ends the process that finds its bits overwritten, and
 * here any task can overwrite them; in this one every value means something: 0 is no token, all else is one. More tokens
 * than one would say nothing more, because everybody looks again after each. It does not count who sleeps: a count that
 * was overwritten would lose wakes, and posts go to sleepers nearly always. Zero is ready for use. All of it may be used
 * in a signal handler.
 */
#ifndef PP_LIB_SEM_H
#define PP_LIB_SEM_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct pp__sem { _Atomic uint32_t token; };

void pp__sem_post(struct pp__sem *sem);
bool pp__sem_trywait(struct pp__sem *sem);
/* Waits for the token until the absolute deadline, signals notwithstanding. true: took it. */
bool pp__sem_wait(struct pp__sem *sem, int64_t deadline_ns);

static inline bool pp__sem_has_token(const struct pp__sem *sem)
{
	return atomic_load(&sem->token) != 0;
}

#endif
