/* SPDX-License-Identifier: MIT */
/*
 * The life of a worker: initializer; look for a task, claim it, run it, publish its end; finalizer. A SIGKILL may come
 * between any two instructions; what it leaves behind stands beside each step.
 */
#include "worker.h"
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "memory.h"
#include "capture.h"
#include "chunk.h"
#include "policy.h"
#include "ring.h"
#include "slot.h"
#include "supervisor.h"
#include "surroundings.h"
#include "tally.h"
#include "wake.h"


/* The first claim after a wake: lets another be woken, wakes one if there is more (also when it was not the searcher
 * any more: two tasks may have been submitted while it was), and sees to it that the supervisor ticks while tasks run. */
static void stop_searching(struct pp__self *self)
{
	const struct pp__shared *shared = self->shared;

	pp__sleepers_leave(shared, self->entry);
	pp__searching_end(shared, self->entry);
	if (pp__ring_has_ready(shared))
		pp__wake_one(shared);
	if (atomic_load_explicit(&shared->control->supervisor_wakes_ns, memory_order_relaxed) == PP__NEVER)
		pp__nudge_supervisor(shared);
}

/* It woke on the parent's CPU. While tasks come in a row another takes them, and the parent brings more. Whoever lets some
 * gather says so again; nobody else ends it where the parent does not wait. */
static void give_way(const struct pp__self *self)
{
	_Atomic uint32_t *gathering = &self->shared->control->gathering;

	if (!atomic_load_explicit(gathering, memory_order_relaxed))
		return;
	atomic_store_explicit(gathering, 0, memory_order_relaxed);
	sched_yield();
}

/* false: the time is over, and nobody has woken it. */
static bool sleep_until_woken(struct pp__self *self, int64_t deadline)
{
	int64_t before = pp__now_ns();
	uint32_t cpu;

	if (!pp__sem_wait(&self->line->wake, deadline))
		return false;
	pp__spin_learn(&self->spin, pp__now_ns() - before);
	cpu = pp__cpu_here();
	if (atomic_load_explicit(&self->shared->control->worker_cpu, memory_order_relaxed) != cpu)
		atomic_store_explicit(&self->shared->control->worker_cpu, cpu, memory_order_relaxed);
	if (atomic_load(&self->shared->header->submit_cpu) == cpu)
		give_way(self);
	return true;
}

/* The number of workers was lowered: this one is too many. */
static bool is_surplus(const struct pp__self *self)
{
	return atomic_load(&self->line->seat) >= (int32_t)self->shared->header->max_workers;
}

/*
 * Leaves the map of sleepers for good. false: somebody has taken it out, and wakes it; it has to look again. Who sees that
 * it has left the map sees that it counts no more, so that is said first. Killed in between, it is gone all the same.
 */
static bool leave_idle(struct pp__self *self)
{
	_Atomic uint32_t *exits = &self->shared->control->idle_exits;

	if (is_surplus(self))            /* whoever lowered the number has counted anew */
		return pp__sleepers_take(self->shared, self->entry);
	atomic_fetch_add(exits, 1);
	self->left_idle = pp__sleepers_take(self->shared, self->entry);
	if (!self->left_idle)
		atomic_fetch_sub(exits, 1);
	return self->left_idle;
}

/* Sleeps until there is a task, and claims it; 0 when it is to leave: the executor is closing and there is none, or it
 * was idle for too long, or is one too many. */
static uint64_t await_task(struct pp__self *self, uint32_t *slot)
{
	int64_t idle = self->options->idle_timeout_ms, until = idle ? pp__deadline_ns(idle) : PP__NEVER;
	uint64_t word = pp__spin_for_task(self, slot);

	while (!word) {
		bool closing = pp__is_closing(self);
		pp__sem_trywait(&self->line->wake);      /* a token from before this look says nothing */
		pp__searching_end(self->shared, self->entry);
		pp__sleepers_enter(self->shared, self->entry);
		word = pp__look(self, slot);
		if (word || closing)
			break;
		if ((is_surplus(self) || !sleep_until_woken(self, until)) && leave_idle(self))
			break;
		word = pp__look(self, slot);
		if (!word)
			word = pp__spin_for_task(self, slot);
	}
	stop_searching(self);
	self->now_ns = pp__clock_read(&self->clock);
	return word;
}

/* Of a chunk each item is guarded on its own. */
static int call(struct pp__self *self, const struct pp__desc *desc, const void *data)
{
	bool guarded = self->guard.on && desc->fn != pp__chunk_run;
	int rc;

	if (guarded)
		pp__task_lend(&self->task);
	rc = desc->fn(&self->task, data, desc->size);
	if (guarded && pp__is_owner_process(self->mark, self->pid))
		pp__task_take(&self->task);
	return rc;
}

/* Without its descriptors the function is not called. They are closed before the end is published: whoever hears of it,
 * and reads the other end of a pipe, finds that its end has come. */
static int run_with_fds(struct pp__self *self, const struct pp__desc *desc, const void *data)
{
	int rc = pp__pass_fetch(self, self->task.slot, self->task.generation);

	if (rc < 0)
		return pp_raise(&self->task, rc, "its descriptors could not be passed on: %s", pp_strerror(rc));
	rc = call(self, desc, data);
	if (pp__is_owner_process(self->mark, self->pid))
		pp__pass_close_all(self);
	return rc;
}

/* The supervisor sees that this task has to be stopped when it looks next; that may have to be earlier than it means to. */
static void tell_of_stop(const struct pp__self *self, uint32_t slot)
{
	const struct pp__policy *policy = pp__policy_of(self->shared, slot);
	uint64_t stop = pp__policy_stop_ns(policy, (uint64_t)self->now_ns);

	atomic_thread_fence(memory_order_seq_cst);
	if (stop != PP__NO_STOP && (int64_t)stop < atomic_load(&self->shared->control->supervisor_wakes_ns))
		pp__nudge_supervisor(self->shared);
}

/* It raised, and another attempt is left. Killed before the supervisor is told: it looks after each death. */
static void fail(const struct pp__self *self, struct pp__cell *cell, uint64_t word)
{
	if (!pp__slot_fail(cell, word))
		_exit(0);                        /* as below */
	atomic_fetch_add(&self->shared->control->failures, 1);
	pp__nudge_supervisor(self->shared);
}

static int run_with_extras(struct pp__self *self, const struct pp__desc *desc, const void *data)
{
	int rc;

	if (self->capture.fd >= 0)
		pp__capture_begin(self);
	if (self->accounts)
		pp__usage_begin(self);
	rc = desc->fd_count ? run_with_fds(self, desc, data) : call(self, desc, data);
	if (!pp__is_owner_process(self->mark, self->pid))
		return rc;
	if (self->accounts)
		pp__usage_end(self, self->task.slot);
	pp__task_land(&self->task);
	return rc;
}

/* The end of the task before is the start of this one, which may have been submitted a moment later. */
static void start_clock(struct pp__self *self, struct pp__cell *cell)
{
	int64_t queued = (int64_t)((uint64_t)self->now_ns - cell->start_ns);     /* which may be forged */

	if (queued < 0)
		queued = 0;
	cell->start_ns += (uint64_t)queued;
	self->tally->queue_ns[pp__bucket((uint64_t)queued)]++;
}

/* It may have been submitted by a clock that is a little ahead. */
static void stop_clock(struct pp__self *self, struct pp__cell *cell)
{
	self->now_ns = pp__clock_read(&self->clock);
	if (self->now_ns < (int64_t)cell->start_ns)
		self->now_ns = (int64_t)cell->start_ns;
	cell->end_ns = (uint64_t)self->now_ns;
}

/* Being stopped: the signal is on its way, and no other task may get it. Another counts the end. */
static _Noreturn void leave_stopped(struct pp__self *self, uint64_t *ran, int rc)
{
	--*ran;
	if (rc != 0)
		self->tally->outcomes[PP_RAISED]--;
	_exit(0);
}

/* Killed before the publish: failed, with the cause. Killed after it: the result stands; the supervisor announces it. */
static void run(struct pp__self *self, uint32_t slot, uint64_t word)
{
	struct pp__cell *cell = self->shared->cells + slot;
	const struct pp__desc *desc = self->shared->descs + slot;
	const void *data = desc->offset ? self->shared->base + desc->offset : (const void *)desc->bytes;
	uint64_t *ran;                   /* counted before the publish: whoever hears of the end finds it counted */
	int rc;

	pp__task_begin(self, slot, word);
	word = pp__slot_run(cell, word);
	if (!word) {
		if (pp__word_state(pp__slot_look(cell)) == PP__STOP_REQUEUE)
			_exit(0);                /* it was taken for dead; the supervisor waits for that */
		return;                          /* cancelled in between: dropped, and not touched again */
	}
	start_clock(self, cell);
	__atomic_store_n(&cell->who, pp__who_make(self->pid, atomic_load_explicit(&self->line->seat, memory_order_relaxed)),
	                 __ATOMIC_RELEASE);
	if (desc->policy)
		tell_of_stop(self, slot);
	self->tasks++;
	atomic_store_explicit(&self->line->tasks, self->tasks, memory_order_relaxed);
	rc = desc->fd_count || self->has_extras ? run_with_extras(self, desc, data) : desc->fn(&self->task, data, desc->size);
	if (!pp__is_owner_process(self->mark, self->pid))
		_exit(0);                        /* a child of the task came back from it: the future is not its own */
	pp__flush_output();
	stop_clock(self, cell);
	rc = pp__task_end(&self->task, rc);
	if (rc && pp__policy_retries(pp__policy_of(self->shared, slot), PP_RAISED)) {
		fail(self, cell, word);
		return;
	}
	ran = &self->tally->run_ns[pp__bucket(cell->end_ns - cell->start_ns)];
	++*ran;
	if (rc != 0)
		self->tally->outcomes[PP_RAISED]++;
	word = pp__slot_publish(cell, word);
	if (!word)
		leave_stopped(self, ran, rc);
	if (word & PP__WANTS)
		pp__announce_end(self->shared, slot, word);
}

/* A spare has run the initializer, and waits for the seat of one that died. false: the executor is closing. */
static bool await_seat(struct pp__self *self)
{
	while (atomic_load(&self->line->seat) < 0) {
		if (pp__is_closing(self))
			return false;
		pp__round_look(self);
		pp__sem_wait(&self->line->wake, PP__NEVER);
	}
	return true;
}

/* Memory that a task has left behind, or that its allocator keeps. Who has grown by too much ends in good order. */
static bool has_grown(const struct pp__self *self)
{
	int64_t most = self->options->limits.growth_bytes;
	struct pp__memory now;

	return most && pp__memory_now(0, &now)
	       && now.resident > atomic_load(&self->line->resident) + pp__limit_bytes(most);
}

static void work(struct pp__self *self)
{
	uint64_t limit = self->shared->header->max_tasks, word;
	uint32_t slot = PP__NO_SLOT;

	if (!await_seat(self))
		return;
	pp__surroundings_pin(self, self->options);
	self->now_ns = pp__clock_read(&self->clock);
	word = pp__look(self, &slot);
	if (word)
		stop_searching(self);
	for (;;) {
		if (!word)
			word = await_task(self, &slot);
		if (!word)
			return;
		if (atomic_load(&self->line->condemned))
			_exit(0);                /* it is about to be killed, and the claim goes back */
		run(self, slot, word);
		if ((limit && self->tasks >= limit) || is_surplus(self) || has_grown(self))
			return;
		word = pp__look(self, &slot);
	}
}

static void note_memory(struct pp__self *self)
{
	struct pp__memory now;

	if ((self->options->limits.growth_bytes || self->options->limits.resident_bytes) && pp__memory_now(0, &now))
		atomic_store(&self->line->resident, now.resident);
}

static bool initialize(struct pp__self *self)
{
	pp_fn *initializer = self->shared->header->initializer;
	const struct pp__header *h = self->shared->header;
	int rc = initializer ? pp__run_hook(self, initializer, h->init_offset, h->init_size) : 0;

	if (rc != 0) {
		self->line->init_code = rc;
		atomic_store(&self->line->phase, PP__INIT_FAILED);
		return false;
	}
	note_memory(self);
	atomic_store(&self->line->phase, PP__LIVE);
	atomic_fetch_add(&self->shared->control->initialized, 1);
	if (self->shared->header->flags & PP_START_ALL)
		pp__sem_post(&self->shared->control->bell);  /* create waits for it */
	return true;
}

int pp__worker_main(struct pp__supervisor *supervisor, uint32_t entry)
{
	static struct pp__self self;             /* not on the stack: a task may overrun that */
	const struct pp__header *h = supervisor->shared->header;

	self = (struct pp__self){ .shared = supervisor->shared, .line = supervisor->shared->workers + entry,
	                          .tally = pp__tally_of(supervisor->shared, entry), .accounts = h->flags & PP_ACCOUNTING,
	                          .entry = entry, .spin = { .budget_ns = PP__SPIN_MAX_NS },
	                          .stack_top = (uintptr_t)__builtin_frame_address(0) + 16, .sums = h->flags & PP_CHECKSUM };
	if (pp__worker_setup(&self, supervisor) < 0)
		return 1;
	self.has_extras = self.accounts || self.capture.fd >= 0 || self.guard.on;
	pp__round_born(&self);
	if (!initialize(&self))
		return 1;
	work(&self);
	if (!self.left_idle)
		pp__promote_spare(&self);
	atomic_store(&self.line->phase, PP__LEAVING);
	pp__sleepers_leave(self.shared, entry);
	if (pp__ring_has_ready(self.shared))
		pp__nudge_supervisor(self.shared);       /* which may have counted on it until now */
	if (h->finalizer)
		pp__run_hook(&self, h->finalizer, h->init_offset, h->init_size);
	pp__segment_forget(&supervisor->boot.segment);
	return 0;
}
