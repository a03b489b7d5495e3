/* SPDX-License-Identifier: MIT */
/*
 * From a slot that has ended to the outcome that the caller sees. Workers can write to cells, so each field is read once,
 * into a local copy, and checked there against what the parent knows; a result that does not fit its check is an error
 * and never wrong bytes.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "report.h"
#include "units.h"

static const unsigned char no_bytes[16];
const struct pp__usage pp__usage_unknown = { UINT64_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX };

/* What is read from the cell, once. */
struct seen {
	uint64_t word, size, start_ns, end_ns, claim, death_address;
	uint32_t check, who;
	int32_t  code, death_signal, death_code;
};

static void see(struct seen *seen, struct pp__cell *cell)
{
	const volatile struct pp__cell *v = cell;

	seen->word = pp__slot_look(cell);
	seen->size = v->size;
	seen->start_ns = v->start_ns;
	seen->end_ns = v->end_ns;
	seen->check = v->check;
	seen->who = v->who;
	seen->code = v->code;
	if (pp__word_state(seen->word) == PP__DONE && seen->size <= PP__EXTENSION) {
		seen->claim = seen->death_address = 0;
		seen->death_signal = seen->death_code = 0;
		return;                  /* the second line is not touched for a small result */
	}
	seen->claim = atomic_load(&cell->claim);
	seen->death_signal = v->death_signal;
	seen->death_code = v->death_code;
	seen->death_address = v->death_address;
}

static void say(struct pp__box *box, const char *format, ...) PP_FORMAT(2, 3);
static void say(struct pp__box *box, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	if (vasprintf(&box->owned, format, list) < 0)
		box->owned = NULL;
	va_end(list);
	box->outcome.message = box->owned ? box->owned : "";
}

static void overwritten(struct pp__box *box)
{
	free(box->owned);
	box->outcome.kind = PP_RAISED;
	box->outcome.code = -EBADMSG;
	box->outcome.data = no_bytes;
	box->outcome.size = 0;
	say(box, "the result was overwritten in shared memory");
}

/* A part of its own argument that the task returned as it stood. What the argument is, the parent knows. */
static const unsigned char *in_argument(const pp_future *future, uint64_t offset, uint64_t size)
{
	const struct pp__shared *shared = &future->executor->segment.shared;
	const struct pp__desc *desc = shared->descs + future->slot;

	if (!pp__extra_of(future)->block || desc->offset < shared->header->mutables || offset > desc->size || size > desc->size - offset)
		return NULL;
	return (const unsigned char *)shared->base + desc->offset + offset;
}

/* Where a result of at most PP__EXTENSION bytes is. */
static inline const unsigned char *locate_small(pp_future *future, struct pp__box *box, uint64_t size)
{
	const struct pp__shared *shared = &future->executor->segment.shared;

	if (size == 0)
		return no_bytes;
	if (size > PP__RESULT_INLINE)
		return shared->extensions + (uint64_t)future->slot * PP__EXTENSION;
	memcpy(box->bytes, shared->cells[future->slot].result, PP__RESULT_INLINE);
	return box->bytes;
}

/* Where a result of that size is; NULL: not in memory of its task's. */
static const unsigned char *locate(pp_future *future, struct pp__box *box, const struct seen *seen)
{
	const struct pp__shared *shared = &future->executor->segment.shared;

	if (seen->size <= PP__EXTENSION)
		return locate_small(future, box, seen->size);
	if (pp__claim_is_argument(seen->claim))
		return in_argument(future, pp__claim_offset(seen->claim), seen->size);
	if (!pp__units_are_owned(shared, future->slot, future->generation, seen->claim, seen->size))
		return NULL;
	return (const unsigned char *)shared->base + pp__units_offset(shared->header, seen->claim);
}

/* What is left of the check without the descriptor: the sum of the bytes, or 0. */
static uint32_t sum_of(const pp_future *future, const struct seen *seen)
{
	return seen->check ^ pp__result_check(future->executor->segment.shared.header, future->slot, future->generation,
	                                      seen->size, seen->code, seen->claim);
}

/* A copy of the parent's own has room for the NUL. */
static void say_raise(struct pp__box *box, const char *message, uint32_t length)
{
	if (!box->owned) {
		say(box, "%.*s", (int)length, message);
		return;
	}
	box->owned[message - box->owned + length] = 0;
	box->outcome.message = message;
}

/* Length of the message : 4 bytes, message, padding to 8, detail. The message is copied, the detail stays in place. */
static void read_raise(struct pp__box *box, const unsigned char *bytes, uint64_t size)
{
	uint64_t detail;
	uint32_t length;

	memcpy(&length, bytes, sizeof length);
	detail = (sizeof length + (uint64_t)length + 1 + 7) & ~UINT64_C(7);
	if (length > PP__MESSAGE_MAX || detail > size) {
		overwritten(box);
		return;
	}
	say_raise(box, (const char *)bytes + sizeof length, length);
	box->outcome.data = size > detail ? bytes + detail : no_bytes;
	box->outcome.size = size - detail;
}

void pp__box_read(struct pp__box *box, int code, const unsigned char *bytes, uint64_t size)
{
	if (!bytes) {
		overwritten(box);
		return;
	}
	box->outcome.kind = code ? PP_RAISED : PP_RETURNED;
	box->outcome.code = code;
	if (!code) {
		box->outcome.data = bytes;
		box->outcome.size = size;
	} else if (size >= 8) {
		read_raise(box, bytes, size);
	}
}

static void read_death(const pp_future *future, struct pp__box *box, const struct seen *seen)
{
	pp_outcome *o = &box->outcome;

	if (seen->death_signal > 0 && seen->death_signal < NSIG) {
		o->kind = PP_CRASHED;
		o->signal = seen->death_signal;
		o->signal_code = seen->death_code;
		o->fault_address = (uintptr_t)seen->death_address;
		pp__crash_describe(future, box, seen->word);
		return;
	}
	o->kind = PP_EXITED;
	o->code = seen->death_code & 0xff;
	say(box, "exited with status %d", o->code);
}

static void read_memory(struct pp__box *box, const struct seen *seen)
{
	box->outcome.kind = PP_MEMORY;
	box->outcome.certain = seen->death_code != PP__MEMORY_POSSIBLY;
	box->outcome.message = seen->death_code == PP__MEMORY_CAP ? "stopped because it used too much memory"
	                       : box->outcome.certain ? "killed by the kernel for want of memory"
	                       : "killed, possibly by the kernel for want of memory";
}

/* A worker that goes from one task to the next takes the end of one for the start of the other. */
static inline __attribute__((always_inline)) void read_times(pp_future *future, pp_outcome *o, const struct seen *seen)
{
	uint64_t submit = (uint64_t)future->submit_ns, start = seen->start_ns < submit ? submit : seen->start_ns;

	if (!seen->who) {
		o->queued_ns = (uint64_t)pp__now_ns() - submit;
		return;
	}
	o->queued_ns = start - submit;
	o->running_ns = seen->end_ns > start ? seen->end_ns - start : 0;
	o->pid = pp__who_pid(seen->who);
	o->worker = pp__who_seat(seen->who);
	if (o->worker >= (int)atomic_load(&future->executor->most_workers))
		o->worker = -1;
	o->attempt++;
}

/* The parent wrote the name, and nobody else can. */
static const char *task_name(const pp_future *future)
{
	const struct pp__shared *shared = &future->executor->segment.shared;
	const struct pp__desc *desc = shared->descs + future->slot;

	if (atomic_load_explicit(&future->plain, memory_order_relaxed) || !desc->name_size)
		return "";
	return (const char *)desc->bytes + PP__ARG_INLINE - desc->name_size;
}

static void put_usage(pp_outcome *o, const volatile struct pp__usage *usage)
{
	o->cpu_ns = usage->cpu_ns;
	o->peak_rss = usage->peak_rss;
	o->faults = usage->faults;
	o->switches = usage->switches;
}

void pp__box_init(struct pp__box *box)
{
	box->owned = NULL;
	box->report = NULL;
	box->earlier = NULL;
	box->outcome = (pp_outcome){ .data = no_bytes, .message = "", .task_name = "", .worker = -1 };
	put_usage(&box->outcome, &pp__usage_unknown);
}

struct pp__box *pp__box_broken(const char *text, int code)
{
	struct pp__box *box = aligned_alloc(alignof(struct pp__box), sizeof *box);

	if (!box)
		return NULL;
	pp__box_init(box);
	box->outcome.kind = PP_BROKEN;
	box->outcome.code = code;
	say(box, "%s", text);
	return box;
}

void pp__box_clear(struct pp__box *box)
{
	free(box->owned);
	pp__report_free(box->report);
	free(box->earlier);
}

void pp__box_free(struct pp__box *box)
{
	pp__box_clear(box);
	free(box);
}

static void read_broken(pp_future *future, struct pp__box *box)
{
	const struct pp__box *why = atomic_load(&future->executor->broken);

	box->outcome.kind = PP_BROKEN;
	box->outcome.code = why ? why->outcome.code : -EPIPE;
	say(box, "%s", why ? why->outcome.message : "its slot was overwritten in shared memory");
}

/* What a chunk returns has no sum, its items have. */
static int read_result(pp_future *future, struct pp__box *box, const struct seen *seen)
{
	bool summed = future->executor->flags & PP_CHECKSUM && !(future->chunk && !seen->code);
	uint32_t sum = sum_of(future, seen);
	const unsigned char *bytes = sum && !summed ? NULL : locate(future, box, seen);

	if (summed)
		return pp__box_read_verified(future->executor, box, seen->code, bytes, seen->size, sum);
	pp__box_read(box, seen->code, bytes, seen->size);
	return 0;
}

#define WITHOUT_PLAIN (PP_ACCOUNTING | PP_CHECKSUM | PP_COPY_OUT)

/* A small result of a plain task as it should be, which nearly all are. One after the other needs no box made anew: that
 * would be half of what reading it costs. false: whatever else it is, nothing was read. */
static inline bool read_plain(pp_future *future, struct pp__box *box)
{
	const pp_executor *ex = future->executor;
	struct pp__cell *cell = pp__cell_of(future);
	const volatile struct pp__cell *v = cell;
	struct seen seen;

	if (ex->flags & WITHOUT_PLAIN || !atomic_load_explicit(&future->plain, memory_order_relaxed)
	    || pp__word_state(pp__slot_look(cell)) != PP__DONE)
		return false;
	/* The next task in this slot writes both lines, which the worker has yet. */
	__builtin_prefetch(cell, 1);
	__builtin_prefetch(ex->segment.shared.descs + future->slot, 1);
	seen.size = v->size;
	seen.who = v->who;
	if (seen.size > PP__EXTENSION || !seen.who
	    || v->check != pp__result_check(ex->segment.shared.header, future->slot, future->generation, seen.size, 0, 0))
		return false;
	seen.start_ns = v->start_ns;
	seen.end_ns = v->end_ns;
	if (!future->neat) {
		pp__box_init(box);
		box->outcome.library = future;
		box->outcome.kind = PP_RETURNED;
		future->neat = true;
	}
	box->outcome.attempt = 0;
	read_times(future, &box->outcome, &seen);
	box->outcome.size = seen.size;
	box->outcome.data = locate_small(future, box, seen.size);
	return true;
}

/* Whatever it is. 0; -ENOMEM. */
static int __attribute__((noinline)) read_box(pp_future *future, struct pp__box *box)
{
	struct seen seen;

	see(&seen, pp__cell_of(future));
	future->neat = false;
	pp__box_init(box);
	box->outcome.task_name = task_name(future);
	box->outcome.library = future;
	if (!atomic_load_explicit(&future->plain, memory_order_relaxed)) {
		box->earlier = pp__policy_history(future, box->outcome.task_name, &box->outcome.attempt);
		box->outcome.earlier = pp__policy_last(box->earlier, box->outcome.attempt);
	}
	read_times(future, &box->outcome, &seen);
	if (future->executor->flags & PP_ACCOUNTING)
		put_usage(&box->outcome, future->executor->segment.shared.usages + future->slot);
	switch (pp__word_state(seen.word)) {
	case PP__DONE:
		return read_result(future, box, &seen);
	case PP__DIED:
		read_death(future, box, &seen);
		break;
	case PP__KILLED:
		box->outcome.kind = PP_KILLED;
		box->outcome.message = "killed on request";
		break;
	case PP__TIMED_OUT:
		box->outcome.kind = PP_TIMED_OUT;
		box->outcome.message = seen.who ? "stopped because its time was over" : "its deadline passed before it started";
		break;
	case PP__MEMORY:
		read_memory(box, &seen);
		break;
	case PP__CANCELLED:
		box->outcome.kind = PP_CANCELLED;
		box->outcome.message = "cancelled before it started";
		break;
	default:
		read_broken(future, box);
	}
	return 0;
}

/* Results are mostly taken in the order of their slots, up or down. The cell's line comes from another CPU. */
static void fetch_ahead(pp_executor *ex, uint32_t slot)
{
	uint32_t step = slot - atomic_load_explicit(&ex->read_slot, memory_order_relaxed), next = slot + PP__SLOTS_AHEAD * step;
	struct pp__slab *slab;

	atomic_store_explicit(&ex->read_slot, slot, memory_order_relaxed);
	if (step + 8u > 16u || next >= atomic_load_explicit(&ex->slots, memory_order_acquire))
		return;
	slab = ex->slabs[next / PP__SLAB];
	__builtin_prefetch(ex->segment.shared.cells + next);
	__builtin_prefetch(&slab->futures[next % PP__SLAB], 1);
	__builtin_prefetch(&slab->boxes[next % PP__SLAB], 1);
	__builtin_prefetch((char *)&slab->boxes[next % PP__SLAB] + PP__LINE, 1);
}

/* Another thread makes it, or there was no memory for it. */
static const pp_outcome *__attribute__((noinline)) await_box(const pp_future *future, const struct pp__box *box)
{
	uint8_t boxed;

	while ((boxed = atomic_load_explicit(&future->boxed, memory_order_acquire)) == PP__BOXING)
		sched_yield();
	return boxed == PP__BOXED ? &box->outcome : NULL;
}

/* Of several threads that see the end at the same time one makes the box. NULL: there is no memory for a copy. */
const pp_outcome *pp__future_outcome(pp_future *future)
{
	struct pp__box *box = pp__box_place(future);
	uint8_t boxed = atomic_load_explicit(&future->boxed, memory_order_acquire);

	if (boxed == PP__UNBOXED && atomic_compare_exchange_strong(&future->boxed, &boxed, PP__BOXING)) {
		fetch_ahead(future->executor, future->slot);
		boxed = read_plain(future, box) || read_box(future, box) == 0 ? PP__BOXED : PP__UNBOXED;
		atomic_store_explicit(&future->boxed, boxed, memory_order_release);
	}
	return boxed == PP__BOXED ? &box->outcome : await_box(future, box);
}
