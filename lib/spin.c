/* SPDX-License-Identifier: MIT */
/* Spinning that adapts: twice as long after a sleep that was short enough to have been spun away, else half as long. */
#include "spin.h"
#include <sched.h>

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
