/* SPDX-License-Identifier: MIT */
/*
 * The parent's side of policies: from options to the record that the supervisor and the workers go by, and from the
 * attempts that failed to what the outcome says of them.
 */
#include "policy.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "pool.h"
#include "wake.h"

#define DEFAULT_RETRY_ON (PP_ON(PP_CRASHED) | PP_ON(PP_TIMED_OUT) | PP_ON(PP_MEMORY))

struct pp__earlier {
	pp_outcome outcome;
	char       message[64];
};

/* 0: none. */
static uint64_t span_ns(int64_t of_task_ms, int64_t of_executor_ms)
{
	int64_t ms = of_task_ms ? of_task_ms : of_executor_ms;

	if (ms <= 0 || ms > INT64_MAX / 4000000)
		return 0;
	return (uint64_t)ms * 1000000;
}

/* Of a wait: what is too long for that is as long as can be, and not 0. */
static uint64_t delay_ns(int64_t ms)
{
	return ms > INT64_MAX / 4000000 ? (uint64_t)INT64_MAX / 4 : (uint64_t)ms * 1000000;
}

static uint64_t record_size(uint32_t retries)
{
	return sizeof(struct pp__policy) + retries * sizeof(struct pp__attempt);
}

uint64_t pp__policy_bytes(const pp_executor *ex, const pp_task_options *o)
{
	return pp__policy_is_wanted(ex, o) ? pp__arguments_rounded(record_size(o->retries)) : 0;
}

/* The record's address; NULL and the error: there is no room. */
static struct pp__policy *make_record(pp_executor *ex, pp_future *future, uint32_t retries, int *error)
{
	const struct pp__shared *shared = &ex->segment.shared;
	int64_t offset = pp__arguments_take(&ex->arguments, &ex->segment, record_size(retries),
	                                    &pp__extra_of(future)->policy_place);

	*error = offset < 0 ? (int)offset : 0;
	if (offset < 0)
		return NULL;
	shared->descs[future->slot].policy = (uint32_t)((uint64_t)offset / PP__LINE);
	return (struct pp__policy *)(void *)(shared->base + offset);
}

static void mark_timed(const pp_future *future, bool timed)
{
	_Atomic uint64_t *word = future->executor->segment.shared.timed + future->slot / 64u;
	uint64_t bit = UINT64_C(1) << future->slot % 64u;

	if (timed)
		atomic_fetch_or(word, bit);
	else
		atomic_fetch_and(word, ~bit);
}

int pp__policy_make(pp_executor *ex, pp_future *future, const pp_task_options *o)
{
	uint64_t deadline = span_ns(o->deadline_ms, ex->deadline_ms);
	struct pp__policy *policy;
	int rc;

	policy = make_record(ex, future, o->retries, &rc);
	if (!policy)
		return rc;
	*policy = (struct pp__policy){
		.timeout_ns = span_ns(o->timeout_ms, ex->timeout_ms),
		.deadline_ns = deadline ? (uint64_t)pp__now_ns() + deadline : 0,
		.retries = o->retries, .retry_on = o->retry_on ? o->retry_on : DEFAULT_RETRY_ON,
		.delay_ns = delay_ns(o->retry_delay_ms), .delay_max_ns = delay_ns(o->retry_delay_max_ms),
	};
	if (policy->deadline_ns || policy->retries)
		mark_timed(future, true);
	return 0;
}

void pp__policy_release(pp_executor *ex, pp_future *future)
{
	struct pp__desc *desc = ex->segment.shared.descs + future->slot;

	if (!desc->policy)
		return;
	mark_timed(future, false);
	desc->policy = 0;
	pp__arguments_give(&ex->arguments, &ex->segment, pp__extra_of(future)->policy_place);
}

/* After the task is READY: the supervisor may sleep for longer than its deadline allows. It publishes until when, and looks
 * at the counter after that. */
void pp__policy_tell(const pp_executor *ex, const pp_future *future)
{
	const struct pp__shared *shared = &ex->segment.shared;
	const struct pp__policy *policy = pp__policy_of(shared, future->slot);

	if (!policy || !policy->deadline_ns)
		return;
	atomic_fetch_add(&shared->header->timed_requests, 1);
	if ((int64_t)policy->deadline_ns < atomic_load(&shared->control->supervisor_wakes_ns))
		pp__nudge(ex);
}

/* Its end was asked for: no attempt follows the one that it is in. */
void pp__policy_give_up(const pp_future *future)
{
	struct pp__policy *policy = pp__policy_of(&future->executor->segment.shared, future->slot);

	if (policy)
		atomic_store(&policy->given_up, 1);
	atomic_thread_fence(memory_order_seq_cst);
}

void pp__policy_recall(const pp_executor *ex)
{
	atomic_fetch_add(&ex->segment.shared.header->timed_requests, 1);
	pp__nudge(ex);
}

static void read_attempt(struct pp__earlier *to, const struct pp__attempt *from, const struct pp__earlier *before)
{
	pp_outcome *o = &to->outcome;

	*o = (pp_outcome){ .kind = from->kind, .data = "", .message = to->message, .task_name = "",
	                   .pid = pp__who_pid(from->who), .worker = pp__who_seat(from->who),
	                   .certain = from->kind == PP_MEMORY,
	                   .cpu_ns = UINT64_MAX, .peak_rss = UINT64_MAX, .faults = UINT64_MAX, .switches = UINT64_MAX,
	                   .earlier = before ? &before->outcome : NULL };
	o->running_ns = from->end_ns > from->start_ns ? from->end_ns - from->start_ns : 0;
	switch (from->kind) {
	case PP_CRASHED:
		o->signal = from->signal;
		o->signal_code = from->code;
		o->fault_address = (uintptr_t)from->address;
		snprintf(to->message, sizeof to->message, "%s",
		         sigdescr_np(from->signal) ? sigdescr_np(from->signal) : "Unknown signal");
		break;
	case PP_EXITED:
		o->code = from->code;
		snprintf(to->message, sizeof to->message, "exited with status %d", from->code);
		break;
	case PP_RAISED:
		o->code = from->code;
		break;
	default:
		snprintf(to->message, sizeof to->message, "%s", pp_kind_name(from->kind));
	}
}

struct pp__earlier *pp__policy_history(const pp_future *future, const char *task_name, unsigned *count)
{
	const struct pp__policy *policy = pp__policy_of(&future->executor->segment.shared, future->slot);
	struct pp__earlier *list;

	*count = policy ? policy->attempts : 0;
	if (!*count || *count > policy->retries)
		return NULL;
	list = calloc(*count, sizeof *list);
	for (unsigned i = 0; list && i < *count; i++) {
		read_attempt(list + i, policy->failed + i, i ? list + i - 1 : NULL);
		list[i].outcome.task_name = task_name;
		list[i].outcome.attempt = i + 1;
	}
	return list;
}

const pp_outcome *pp__policy_last(const struct pp__earlier *history, unsigned count)
{
	return history ? &history[count - 1].outcome : NULL;
}
