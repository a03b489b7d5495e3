/* SPDX-License-Identifier: MIT */
/*
 * What a task used: the difference of two looks at what the kernel counts of this process, before and after it. Threads
 * that earlier tasks left behind count to whichever task runs. The second look is stored where the parent reads it, also
 * by the handler of a crash, which may call this.
 */
#include <sys/resource.h>
#include "worker.h"

static struct pp__usage look(void)
{
	struct rusage r;

	if (getrusage(RUSAGE_SELF, &r) < 0)
		return (struct pp__usage){ 0 };
	return (struct pp__usage){
		.cpu_ns = (uint64_t)(r.ru_utime.tv_sec + r.ru_stime.tv_sec) * UINT64_C(1000000000)
		          + (uint64_t)(r.ru_utime.tv_usec + r.ru_stime.tv_usec) * 1000,
		.peak_rss = (uint64_t)r.ru_maxrss * 1024,
		.faults = (uint64_t)(r.ru_minflt + r.ru_majflt),
		.switches = (uint64_t)(r.ru_nvcsw + r.ru_nivcsw)
	};
}

void pp__usage_begin(struct pp__self *self)
{
	self->usage = look();
}

void pp__usage_end(struct pp__self *self, uint32_t slot)
{
	struct pp__usage now = look();

	now.cpu_ns -= self->usage.cpu_ns;
	now.faults -= self->usage.faults;
	now.switches -= self->usage.switches;
	pp__guard_open_at(&self->guard, self->shared->usages + slot, sizeof now);
	self->shared->usages[slot] = now;
}
