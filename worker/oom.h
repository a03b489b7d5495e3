/* SPDX-License-Identifier: MIT */
/*
 * Whether it was the kernel, for want of memory, that killed a worker. It counts before it sends the signal, so whoever
 * sees the death sees the count. The counter is that of this process's own control group, which its workers share; where there
 * is none, that of the whole system says only that some process was killed so.
 */
#ifndef PP_WORKER_OOM_H
#define PP_WORKER_OOM_H

#include <stdbool.h>
#include <stdint.h>

struct pp__oom {
	char     path[512];              /* a file with a line "oom_kill N"; "": none */
	bool     ours;                   /* it counts in our control group, not in all the system */
	uint64_t counted;                /* of its count so much is accounted for */
};

void pp__oom_begin(struct pp__oom *oom);
/* How many more were killed than are accounted for. */
uint64_t pp__oom_more(const struct pp__oom *oom);

#endif
