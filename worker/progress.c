/* SPDX-License-Identifier: MIT */
/*
 * A task says how far it has come, in its worker's record, of which it is the only writer. Killed or stopped in the
 * middle, the sequence number stays odd and nobody reads the record, until the next writer makes it even again.
 */
#include <errno.h>
#include <string.h>
#include "worker.h"

/* Release: whoever sees a part of what follows also sees the odd number. */
static void write_record(struct pp__progress *record, uint64_t of, uint64_t done, uint64_t total, const char *text)
{
	uint32_t odd = (atomic_load_explicit(&record->sequence, memory_order_relaxed) + 1) | 1;
	uint64_t words[PP__PROGRESS_TEXT / 8] = { 0 };

	memcpy(words, text, strnlen(text, PP__PROGRESS_TEXT - 1));
	atomic_store_explicit(&record->sequence, odd, memory_order_relaxed);
	atomic_thread_fence(memory_order_release);
	atomic_store_explicit(&record->of, of, memory_order_relaxed);
	atomic_store_explicit(&record->done, done, memory_order_relaxed);
	atomic_store_explicit(&record->total, total, memory_order_relaxed);
	for (size_t i = 0; i < PP__PROGRESS_TEXT / 8; i++)
		atomic_store_explicit(&record->text[i], words[i], memory_order_relaxed);
	atomic_store_explicit(&record->sequence, odd + 1, memory_order_release);
}

static void say(const struct pp_task *task, uint64_t done, uint64_t total, const char *text)
{
	pp__guard_open(&task->self->guard, PP__OPEN_CORE);
	write_record(&task->self->tally->progress, pp__progress_of(task->slot, task->generation), done, total, text);
	pp__guard_close(&task->self->guard);
}

int pp_task_progress(pp_task *task, uint64_t done, uint64_t total, const char *text)
{
	if (!task)
		return -EINVAL;
	if (task->slot != PP__NO_SLOT)
		say(task, done, total, text ? text : "");
	return 0;
}
