/* SPDX-License-Identifier: MIT */
/*
 * Step one of a task's way: the descriptor is written, the slot is made READY, the ring gets an entry, a worker is woken
 * or asked for. Only the death of the parent itself can come in between, and that ends everything.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "chunk.h"
#include "slots.h"
#include "wake.h"

/*
 * Compiled twice, with plain a constant: true for pp_submit of a task whose argument is in its descriptor, to an executor
 * that asks for nothing more; false for all else. Looking for what few tasks have was a third of a submit.
 */
#define TWICE static inline __attribute__((always_inline))

#define SUBMITS_PER_LOOK 32u
#define PASS_IS_FULL      (-ETOOMANYREFS)        /* does not leave this file */

/* Where an argument outside of the descriptor is, or is to be copied to. */
static int64_t place(pp_executor *ex, pp_future *future, const pp_task_options *o, const struct pp__input *in)
{
	if (!in->block && pp__room_never_fits(ex, o, in->size))
		return -ENOSPC;
	if (!in->block)
		return pp__room_take(ex, &ex->arguments, in->size, &pp__extra_of(future)->place);
	pp__extra_of(future)->block = pp_block_ref(in->block);
	return (int64_t)(in->block->offset + in->offset);
}

TWICE void gather(char *bytes, const struct pp__input *in)
{
	for (int i = 0; in->size && i < in->count; i++) {
		if (in->parts[i].iov_len)
			memcpy(bytes, in->parts[i].iov_base, in->parts[i].iov_len);
		bytes += in->parts[i].iov_len;
	}
}

TWICE enum pp__level level_of(const pp_task_options *o, bool plain)
{
	return plain ? PP__NORMAL : (enum pp__level)(PP__NORMAL - o->priority);
}

/* The argument: in the descriptor where it fits beside the name. */
TWICE int fill(pp_executor *ex, pp_future *future, const pp_task_options *o, pp_fn *fn, const struct pp__input *in,
               bool plain)
{
	const struct pp__shared *shared = &ex->segment.shared;
	struct pp__desc *desc = shared->descs + future->slot;
	uint32_t name_size = !plain && o->name && *o->name ? (uint32_t)strnlen(o->name, PP__NAME_MAX) + 1 : 0;
	char *bytes = (char *)desc->bytes, *name = bytes + PP__ARG_INLINE - name_size;
	int64_t offset = 0;
	int rc;

	if (!plain && pp__policy_is_wanted(ex, o)) {
		rc = pp__policy_make(ex, future, o);
		if (rc < 0)
			return rc;
	}
	if (!plain && (in->block || in->size > PP__ARG_INLINE - name_size)) {
		offset = place(ex, future, o, in);
		if (offset < 0)
			return (int)offset;
		bytes = shared->base + offset;
	}
	future->chunk = !plain && fn == pp__chunk_run;
	atomic_store_explicit(&future->plain, plain || (!offset && !name_size && !desc->policy && !future->chunk),
	                      memory_order_relaxed);
	desc->fn = fn;
	desc->size = in->size;
	desc->offset = (uint64_t)offset;
	desc->name_size = (uint16_t)name_size;
	desc->fd_count = plain ? 0 : (uint16_t)o->fd_count;
	future->has_fds = !plain && o->fd_count != 0;
	future->level = (uint8_t)level_of(o, plain);
	gather(bytes, in);
	if (name_size) {
		memcpy(name, o->name, name_size - 1);
		name[name_size - 1] = 0;
	}
	return 0;
}

/* A future whose end must be heard of without anybody waiting for it: detached, or counted against max_pending. */
static bool needs_push(const pp_executor *ex, bool detached)
{
	return detached || ex->max_pending;
}

TWICE void make_ready(pp_executor *ex, pp_future *future, bool detached, bool plain)
{
	const struct pp__shared *shared = &ex->segment.shared;
	struct pp__cell *cell = shared->cells + future->slot;
	uint64_t word = pp__word_of(future, PP__READY);
	bool push = !plain && needs_push(ex, detached);

	atomic_store_explicit(&future->refs, detached ? 0 : 1, memory_order_relaxed);
	atomic_store_explicit(&future->armed, push, memory_order_relaxed);
	future->announced = false;
	future->context = NULL;
	future->submit_ns = pp__clock_read(&ex->clock);
	pp__turns_count(&ex->turns, future->submit_ns);
	cell->who = 0;
	cell->start_ns = (uint64_t)future->submit_ns;
	if (!plain && ex->flags & PP_ACCOUNTING)
		shared->usages[future->slot] = pp__usage_unknown;
	if (!plain && future->chunk)
		pp__chunk_reset(shared, future->slot, future->generation);
	pp__slot_ready(cell, push ? word | PP__WANT_PUSH : word);
}

/* The last that can fail before the slot is READY, so what the supervisor got is always that of a future. */
static int put_fds(pp_executor *ex, const pp_future *future, const pp_task_options *o)
{
	struct pp__pass_message message = { PP__PASS_PUT, future->slot, future->generation & PP__GENERATION_MASK, 0 };
	int rc;

	if (!pp__pass_is_same(&ex->pass))
		return -ENOTCONN;
	rc = pp__pass_send(ex->pass.fd, &message, o->fds, o->fd_count, MSG_DONTWAIT);
	return rc == -EAGAIN ? PASS_IS_FULL : rc;
}

static int check_fds(const pp_executor *ex, const pp_task_options *o)
{
	if (!(ex->flags & PP_PASS_FDS))
		return -ENOTSUP;
	if (o->fd_count > PP_TASK_FDS_MAX)
		return -EMFILE;
	for (uint32_t i = 0; i < o->fd_count; i++)
		if (fcntl(o->fds[i], F_GETFD) < 0)
			return -EBADF;
	return 0;
}

/* Until the supervisor may have read some, without a lock. 0: try again. */
static int await_pass(const pp_executor *ex, const pp_task_options *o, int64_t deadline)
{
	int state;

	if (o->submit_timeout_ms == PP_NONE || pp__in_callback(NULL))
		return -EAGAIN;
	if (pp__now_ns() >= deadline)
		return -ETIMEDOUT;
	pp__nudge(ex);
	state = pp__cancel_hold();
	poll(NULL, 0, 1);
	pp__cancel_restore(state);
	return 0;
}

/* submit_lock held: nobody else writes it. */
static void count_submitted(pp_executor *ex, int64_t more)
{
	uint64_t n = atomic_load_explicit(&ex->submitted, memory_order_relaxed);

	atomic_store_explicit(&ex->submitted, n + (uint64_t)more, memory_order_relaxed);
}

/* submit_lock held. */
TWICE int enqueue(pp_executor *ex, const pp_task_options *o, pp_fn *fn, const struct pp__input *in, bool detached,
                  pp_future **future, bool *nudge, bool plain)
{
	enum pp__level level = level_of(o, plain);
	int rc;

	if (ex->closed)
		return -ESHUTDOWN;
	if (atomic_load(&ex->broken))
		return -EPIPE;
	if (!plain && level != PP__NORMAL && (rc = pp__level_use(ex, level)) < 0)
		return rc;
	*future = pp__slot_take(ex, &rc);
	if (!*future)
		return rc;
	rc = fill(ex, *future, o, fn, in, plain);
	if (!plain && rc == 0 && o->fd_count && !ex->inlined)
		rc = put_fds(ex, *future, o);
	if (rc < 0) {
		pp__slot_give_back(*future);
		return rc;
	}
	*nudge = (plain || !ex->inlined) && !pp__demand_is_met(ex) && pp__demand_raise(ex, 1);
	count_submitted(ex, 1);          /* before it can be counted as ended */
	make_ready(ex, *future, detached, plain);
	if (!plain && ex->inlined)
		atomic_fetch_add(&ex->inline_open, 1);
	else
		rc = pp__ring_push(&ex->rings[level], &ex->segment, (*future)->slot);
	if (rc < 0) {
		/* No worker knows of it; one that was told by a stale entry may have it, and then it runs. */
		if (pp__slot_cancel(pp__cell_of(*future), (*future)->generation)) {
			(*future)->generation++;
			pp__slot_give_back(*future);
			count_submitted(ex, -1);
			return rc;
		}
	}
	return 0;
}

/* Slots that nobody waits for come back through the completion stack only, and with them their room. */
static void drain(pp_executor *ex)
{
	const struct pp__control *c = ex->segment.shared.control;

	if (!atomic_load(&c->done) && !atomic_load(&c->notices))
		return;
	pthread_mutex_unlock(&ex->submit_lock);
	pthread_mutex_lock(&pp__lock);
	pp__drain(ex);
	pthread_mutex_unlock(&pp__lock);
	pthread_mutex_lock(&ex->submit_lock);
}

/* Now and then, and when there is no slot. */
static void __attribute__((noinline)) look_around(pp_executor *ex)
{
	pp__note_cpu(ex);
	drain(ex);
}

static bool may_wait(const pp_executor *ex, const pp_task_options *o)
{
	return o->fd_count || ex->max_bytes;
}

TWICE int submit(pp_executor *ex, const pp_task_options *o, pp_fn *fn, const struct pp__input *in, pp_future **future,
                 bool plain)
{
	bool timed = !plain && may_wait(ex, o) && o->submit_timeout_ms;
	int64_t deadline = timed ? pp__deadline_ns(o->submit_timeout_ms) : PP__NEVER;
	pp_future *made = NULL;
	uint32_t exits;
	bool nudge = false;
	int rc;

	do {
		if (pthread_mutex_trylock(&ex->submit_lock) != 0)
			pp__turns_lock(&ex->turns, &ex->submit_lock);
		if (!pp__free_slots_own(ex->free_slots)->list || ex->submits++ % SUBMITS_PER_LOOK == 0)
			look_around(ex);
		exits = atomic_load(&ex->segment.shared.control->idle_exits);
		rc = enqueue(ex, o, fn, in, future == NULL, &made, &nudge, plain);
		pthread_mutex_unlock(&ex->submit_lock);
	} while (!plain && ((rc == PASS_IS_FULL && (rc = await_pass(ex, o, deadline)) == 0)
	                    || (rc == PP__ROOM_IS_SHORT && (rc = pp__room_await(ex, o, deadline)) == 0)));
	if (rc < 0)
		return rc;
	if (future)
		*future = made;
	if (!plain && ex->inlined) {
		pp__inline_task(ex, o, made->slot);
		return 0;
	}
	if (!plain && !atomic_load_explicit(&made->plain, memory_order_relaxed))
		pp__policy_tell(ex, made);
	if (nudge)
		pp__nudge(ex);
	pp__wake_one_asleep(&ex->segment.shared);
	if (atomic_load(&ex->segment.shared.control->idle_exits) != exits)      /* see demand.c */
		pp__demand_again(ex);
	return 0;
}

/* A place below max_pending, waited for as long as the options say; never from a callback, which ends tasks itself. */
static int reserve_pending(pp_executor *ex, const pp_task_options *o)
{
	bool wait = o->submit_timeout_ms != PP_NONE && !pp__in_callback(NULL);
	int64_t deadline = o->submit_timeout_ms ? pp__deadline_ns(o->submit_timeout_ms) : PP__NEVER;
	int rc = 0;

	pthread_mutex_lock(&pp__lock);
	if (ex->pending >= ex->max_pending)
		pp__drain(ex);
	while (rc == 0 && ex->pending >= ex->max_pending) {
		if (ex->closed)
			rc = -ESHUTDOWN;
		else if (atomic_load(&ex->broken))
			rc = -EPIPE;
		else if (!wait)
			rc = -EAGAIN;
		else if (!pp__await_news(ex, deadline))
			rc = -ETIMEDOUT;
	}
	if (rc == 0)
		ex->pending++;
	pthread_mutex_unlock(&pp__lock);
	return rc;
}

static void unreserve_pending(pp_executor *ex)
{
	pthread_mutex_lock(&pp__lock);
	ex->pending--;
	pthread_cond_broadcast(&ex->news);
	pthread_mutex_unlock(&pp__lock);
}

/* Everything that can be wrong with a task before it has a slot. */
TWICE int check(const pp_executor *ex, const pp_task_options *o, pp_fn *fn, const struct pp__input *in, bool plain)
{
	if (!plain && o->retries && in->block && in->block->offset >= ex->segment.shared.header->mutables)
		return -EINVAL;          /* what an attempt that failed has left there is undefined */
	if (!pp__code_is_known(ex->code, fn))
		return -EFAULT;
	return !plain && o->fd_count ? check_fds(ex, o) : 0;
}

TWICE int check_and_submit(pp_executor *ex, const pp_task_options *options, pp_fn *fn, const struct pp__input *in,
                           pp_future **future, bool plain)
{
	const pp_task_options *o = &pp__task_defaults;
	pp_task_options read;
	int rc = 0;

	if (future)
		*future = NULL;
	if (!pp__is_original_process() || pp__inline_inside)
		return -ECHILD;
	if (!ex || !fn || !in)
		return -EINVAL;
	if (!plain && options) {
		rc = pp__task_options_read(&read, options);
		o = &read;
	}
	if (rc == 0)
		rc = check(ex, o, fn, in, plain);
	if (!plain && rc == 0 && ex->max_pending)
		rc = reserve_pending(ex, o);
	if (rc < 0)
		return rc;
	rc = submit(ex, o, fn, in, future, plain);
	if (!plain && rc < 0 && ex->max_pending)
		unreserve_pending(ex);
	return rc;
}

int pp__submit(pp_executor *ex, const pp_task_options *options, pp_fn *fn, const struct pp__input *in, pp_future **future)
{
	return check_and_submit(ex, options, fn, in, future, false);
}

int pp_submit_with(pp_executor *ex, const pp_task_options *options, pp_fn *fn, const void *data, size_t size,
                   pp_future **future)
{
	const struct iovec part = { (void *)(uintptr_t)data, size };
	const struct pp__input in = { .parts = &part, .count = 1, .size = size };

	return pp__submit(ex, options, fn, !data && size ? NULL : &in, future);
}

int pp_submit_iov(pp_executor *ex, const pp_task_options *options, pp_fn *fn, const struct iovec *parts, int count,
                  pp_future **future)
{
	struct pp__input in = { .parts = parts, .count = count };
	bool bad = count < 0 || (!parts && count), huge = false;

	for (int i = 0; !bad && i < count; i++) {
		bad = !parts[i].iov_base && parts[i].iov_len;
		huge |= __builtin_add_overflow(in.size, parts[i].iov_len, &in.size);
	}
	if (huge)
		in.size = UINT64_MAX;            /* which there is no room for */
	return pp__submit(ex, options, fn, bad ? NULL : &in, future);
}

int pp_submit(pp_executor *ex, pp_fn *fn, const void *data, size_t size, pp_future **future)
{
	const struct iovec part = { (void *)(uintptr_t)data, size };
	const struct pp__input in = { .parts = &part, .count = 1, .size = size };

	if (ex && ex->plain && future && size <= PP__ARG_INLINE && (data || !size))
		return check_and_submit(ex, NULL, fn, &in, future, true);
	return pp_submit_with(ex, NULL, fn, data, size, future);
}
