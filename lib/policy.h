/* SPDX-License-Identifier: MIT */
/*
 * What a task may do beyond running once for as long as it likes: its struct pp__policy, for those of all processes that
 * look at it. A task without one costs a look at one field of its descriptor.
 */
#ifndef PP_LIB_POLICY_H
#define PP_LIB_POLICY_H

#include <stdbool.h>
#include "procpool.h"
#include "layout.h"

#define PP__NO_STOP UINT64_MAX   /* a time that does not come */

/* NULL: it has none. The parent wrote the descriptor, and nobody else can. */
static inline struct pp__policy *pp__policy_of(const struct pp__shared *shared, uint32_t slot)
{
	uint32_t line = shared->descs[slot].policy;

	return line ? (struct pp__policy *)(void *)(shared->base + (uint64_t)line * PP__LINE) : NULL;
}

/* When an attempt that started then has to be stopped. */
static inline uint64_t pp__policy_stop_ns(const struct pp__policy *policy, uint64_t start_ns)
{
	uint64_t stop = PP__NO_STOP;

	if (policy->timeout_ns)
		stop = start_ns + policy->timeout_ns;
	if (policy->deadline_ns && policy->deadline_ns < stop)
		stop = policy->deadline_ns;
	return stop;
}

static inline bool pp__policy_has_more(const struct pp__policy *policy, int kind)
{
	return policy && policy->retry_on & PP_ON(kind) && policy->attempts < policy->retries;
}

/* Whether an attempt that ends in this way is followed by another. */
static inline bool pp__policy_retries(const struct pp__policy *policy, int kind)
{
	return pp__policy_has_more(policy, kind) && !atomic_load(&policy->given_up);
}

#endif
