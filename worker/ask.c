/* SPDX-License-Identifier: MIT */
/* What a task may ask about itself and its worker: nothing here writes to shared memory. */
#include "policy.h"
#include "slot.h"
#include "sysdep.h"
#include "worker.h"

int pp_task_worker(const pp_task *task)
{
	return task ? atomic_load(&task->self->line->seat) : -1;
}

unsigned pp_task_attempt(const pp_task *task)
{
	return task ? task->attempt : 0;
}

const char *pp_task_name(const pp_task *task)
{
	return task ? task->name : "";
}

bool pp_task_cancelled(const pp_task *task)
{
	uint64_t word;

	if (!task || task->slot == PP__NO_SLOT)
		return false;
	word = pp__slot_look(task->self->shared->cells + task->slot);
	return pp__word_state(word) > PP__RUNNING && pp__word_state(word) <= PP__STOP_MEMORY;
}

int64_t pp_task_remaining_ms(const pp_task *task)
{
	const struct pp__policy *policy;
	uint64_t stop, now;

	if (!task || task->slot == PP__NO_SLOT || task->self->inlined)
		return PP_FOREVER;
	policy = pp__policy_of(task->self->shared, task->slot);
	stop = policy ? pp__policy_stop_ns(policy, task->self->shared->cells[task->slot].start_ns) : PP__NO_STOP;
	now = (uint64_t)pp__now_ns();
	return stop == PP__NO_STOP ? PP_FOREVER : stop > now ? (int64_t)((stop - now) / 1000000) : 0;
}

void pp_task_set_worker_data(pp_task *task, void *data)
{
	if (task)
		task->self->data = data;
}

void *pp_task_worker_data(const pp_task *task)
{
	return task ? task->self->data : NULL;
}
