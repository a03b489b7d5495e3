/* SPDX-License-Identifier: MIT */
/* Spinning that adapts: twice as long after a sleep that was short enough to have been spun away, else half as long. */
#include "spin.h"
#include <sched.h>

#define SKIP_MIN   8u
#define MISSES_MAX 9u                    /* then once in 4096 waits */

uint32_t pp__cpu_here(void)
{
	int cpu = sched_getcpu();

	return cpu < 0 ? 0 : (uint32_t)cpu + 1;
}

int64_t pp__spin_budget(const struct pp__spin *spin, uint32_t peer_cpu)
{
	if (peer_cpu && peer_cpu == pp__cpu_here())
		return 0;
	return atomic_load_explicit(&spin->budget_ns, memory_order_relaxed);
}

bool pp__spin_may_give_way(struct pp__spin *spin)
{
	uint32_t skip = atomic_load_explicit(&spin->skip, memory_order_relaxed);

	if (skip)
		atomic_store_explicit(&spin->skip, skip - 1, memory_order_relaxed);
	return !skip;
}

void pp__spin_gave_way(struct pp__spin *spin, int64_t ns, bool has_come)
{
	uint32_t misses = atomic_load_explicit(&spin->misses, memory_order_relaxed);

	misses = has_come && ns < PP__SPIN_MAX_NS ? 0 : misses < MISSES_MAX ? misses + 1 : misses;
	atomic_store_explicit(&spin->misses, misses, memory_order_relaxed);
	atomic_store_explicit(&spin->skip, misses ? SKIP_MIN << misses : 0, memory_order_relaxed);
}

void pp__spin_learn(struct pp__spin *spin, int64_t slept_ns)
{
	int64_t budget = atomic_load_explicit(&spin->budget_ns, memory_order_relaxed);

	budget = slept_ns < 2 * PP__SPIN_MAX_NS ? 2 * budget : budget / 2;
	if (budget > PP__SPIN_MAX_NS)
		budget = PP__SPIN_MAX_NS;
	if (budget < PP__SPIN_MIN_NS)
		budget = PP__SPIN_MIN_NS;
	atomic_store_explicit(&spin->budget_ns, budget, memory_order_relaxed);
}
