/* SPDX-License-Identifier: MIT */
/*
 * How far a running task says it has come: a look at its worker's record, which says of which slot and generation it
 * speaks. The worker may be writing it: then the sequence number is odd or has changed, and the look is repeated, but
 * not for ever, because a worker can be stopped there.
 */
#include <errno.h>
#include <string.h>
#include "pool.h"

#define LOOKS 1000

struct seen { uint64_t done, total; char text[PP__PROGRESS_TEXT]; };

/* false: it is being written, or was overwritten. */
static bool look(struct pp__progress *record, uint64_t of, struct seen *seen)
{
	uint32_t before = atomic_load_explicit(&record->sequence, memory_order_acquire);
	uint64_t words[PP__PROGRESS_TEXT / 8];

	if (before & 1 || atomic_load_explicit(&record->of, memory_order_relaxed) != of)
		return false;
	seen->done = atomic_load_explicit(&record->done, memory_order_relaxed);
	seen->total = atomic_load_explicit(&record->total, memory_order_relaxed);
	for (size_t i = 0; i < PP__PROGRESS_TEXT / 8; i++)
		words[i] = atomic_load_explicit(&record->text[i], memory_order_relaxed);
	atomic_thread_fence(memory_order_acquire);
	if (atomic_load_explicit(&record->sequence, memory_order_relaxed) != before)
		return false;
	memcpy(seen->text, words, sizeof words);
	seen->text[sizeof seen->text - 1] = 0;
	return true;
}

static bool find(const pp_future *future, struct seen *seen)
{
	const struct pp__shared *shared = &future->executor->segment.shared;
	uint64_t of = pp__progress_of(future->slot, future->generation);
	uint64_t word = pp__slot_look(pp__cell_of(future));
	struct pp__progress *record;

	if (!pp__word_is_like(word, pp__word_of(future, PP__FREE)) || !pp__state_is_running(pp__word_state(word))
	    || pp__word_worker(word) >= shared->header->entries)
		return false;
	record = &pp__tally_of(shared, pp__word_worker(word))->progress;
	for (int i = 0; i < LOOKS; i++) {
		if (look(record, of, seen))
			return true;
		if (!(atomic_load(&record->sequence) & 1) && atomic_load(&record->of) != of)
			return false;
		pp__spin_pause();
	}
	return false;
}

int pp_future_progress(pp_future *future, uint64_t *done, uint64_t *total, char *text, size_t text_size)
{
	struct seen seen = { 0 };
	bool known;

	if (!pp__is_original_process())
		return -ECHILD;
	if (!future || (!text && text_size))
		return -EINVAL;
	known = find(future, &seen);
	if (done)
		*done = seen.done;
	if (total)
		*total = seen.total;
	if (text_size) {
		size_t length = strlen(seen.text);
		length = length < text_size ? length : text_size - 1;
		memcpy(text, seen.text, length);
		text[length] = 0;
	}
	return known;
}
