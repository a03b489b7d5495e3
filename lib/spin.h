/* SPDX-License-Identifier: MIT */
/*
 * How long to look before sleeping. A sleep and a wake cost 4 us on the same CPU and 50 us across two, so looking pays
 * while what is awaited comes within that time; but never when the peer last ran on the CPU of the one who looks, because
 * it cannot run there meanwhile (25 times worse than sleeping at once). Learnt from how long the sleeps turn out to be.
 */
#ifndef PP_LIB_SPIN_H
#define PP_LIB_SPIN_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#define PP__SPIN_MAX_NS    INT64_C(50000)
#define PP__SPIN_MIN_NS    INT64_C(1000)

struct pp__spin {
	_Atomic int64_t  budget_ns;
	_Atomic uint32_t misses, skip;   /* how often in a row giving way did not pay; waits until it is tried again */
};

/* Nanoseconds to look for; 0: sleep at once. peer_cpu is where the other side last ran, plus one; 0: not known. */
int64_t  pp__spin_budget(const struct pp__spin *spin, uint32_t peer_cpu);
/*
 * Where the peer last ran on this CPU, giving way is what looking is elsewhere: it saves a sleep and a wake when what the
 * peer has to do is short, and nobody else wants the CPU. Where that is not so, it is tried less and less often.
 */
bool     pp__spin_may_give_way(struct pp__spin *spin);
/* It took so long, and what was awaited has come. */
void     pp__spin_gave_way(struct pp__spin *spin, int64_t ns, bool has_come);
/* After a sleep of so long. */
void     pp__spin_learn(struct pp__spin *spin, int64_t slept_ns);
uint32_t pp__cpu_here(void);             /* plus one */

static inline void pp__spin_pause(void)
{
#if defined __x86_64__ || defined __i386__
	__builtin_ia32_pause();
#elif defined __aarch64__
	__asm__ volatile("yield");
#endif
}

#endif
