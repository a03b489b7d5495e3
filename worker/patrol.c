/* SPDX-License-Identifier: MIT */
/*
 * A look at live workers, for what sends no signal: a task being stopped, a main thread that has gone while its process
 * lives on (exec, pthread_exit), a claim that does not start, a process that does not die. Ticks only while workers are
 * busy; the first task after a calm second nudges.
 */
#include <linux/futex.h>
#include <sched.h>
#include <signal.h>
#include "capture.h"
#include "ring.h"
#include "slot.h"
#include "supervisor.h"
#include "wake.h"

/* What is owned by nobody may well have the bits of an owner: those of the first worker's first life are 0. */
uint64_t pp__word_at_hand(const struct pp__supervisor *s, uint32_t entry, struct pp__cell **cell)
{
	const struct pp__worker *line = s->shared->workers + entry;
	uint64_t owner = pp__owner(entry, s->incarnations[entry]), word;
	uint32_t slot = atomic_load(&line->cur);
	enum pp__state state;

	if (slot >= atomic_load(&s->shared->header->slots))
		return 0;
	*cell = s->shared->cells + slot;
	word = pp__slot_look(*cell);
	state = pp__word_state(word);
	return pp__word_is_owned_by(word, owner) && state >= PP__FAILED && state < PP__DONE ? word : 0;
}

/* The kernel's mark in the robust mutex. Read, and never locked: by now anything may stand there, and glibc ends a process
 * that tries a mutex which is none. */
bool pp__owner_has_died(const struct pp__supervisor *s, uint32_t entry)
{
	static_assert(offsetof(pthread_mutex_t, __data.__lock) == 0, "the word that the kernel marks comes first");

	return (atomic_load((const _Atomic unsigned *)(const void *)pp__life_of(s->shared, entry)) & ~FUTEX_WAITERS)
	       == FUTEX_OWNER_DIED;
}

/* The mark says that the thread is gone; waitid says nothing yet, and after an exec it never will. */
static void end_if_owner_gone(struct pp__supervisor *s, uint32_t entry, int64_t now)
{
	struct pp__child *child = &s->children[entry];

	if (child->killed_ns)
		return;
	if (!child->marked_ns) {
		if (!pp__owner_has_died(s, entry))
			return;
		atomic_fetch_add(&s->shared->control->owner_deaths, 1);
		child->marked_ns = now;
	}
	/* A process that dies is marked before it is torn down, which takes 18 ms per GiB: its status will come. Twice the
	 * same answer, a tick apart, because one look at several threads is not one instant. */
	if (!pp__lives_on(child->pid))
		child->lived_ns = 0;
	else if (!child->lived_ns)
		child->lived_ns = now;
	if (!child->lived_ns || now - child->lived_ns < PP__TICK_NS)
		return;
	child->owner_gone = true;
	pp__kill_worker(s, entry, SIGKILL);
}

/* Claimed a second ago and not started: stopped, or frozen. The task goes to another. */
static void take_back_claim(struct pp__supervisor *s, uint32_t entry, uint64_t word, struct pp__cell *cell, int64_t now)
{
	_Atomic uint32_t *condemned = &s->shared->workers[entry].condemned;
	struct pp__child *child = &s->children[entry];

	if (pp__word_state(word) != PP__CLAIMED) {
		child->claimed_word = 0;
		return;
	}
	if (word != child->claimed_word) {
		child->claimed_word = word;
		child->claimed_ns = now;
		return;
	}
	if (now - child->claimed_ns < PP__STOPPED_NS)
		return;
	/* First, because the task may be cancelled before the signal comes: then it must not start another. */
	atomic_store(condemned, 1);
	if (pp__slot_stop_claimed(cell, word))
		pp__kill_worker(s, entry, SIGKILL);
	else
		atomic_store(condemned, 0);
}

/*
 * Whether there is a round that it may be in. Its line says which it has answered last; a number that goes back, or ahead of
 * all rounds, was not written by the worker.
 */
static bool may_be_in_round(struct pp__supervisor *s, uint32_t entry)
{
	uint32_t now = pp__levels_round(atomic_load(&s->shared->header->levels)), *known = &s->children[entry].round;
	uint32_t says = atomic_load(&s->shared->workers[entry].round), all = UINT32_MAX >> PP__ROUND_SHIFT;

	if (((now - says) & all) > ((now - *known) & all))
		return false;
	*known = says & all;
	return *known != now;
}

/* In code of the application's that no slot tells of: the initializer, the finalizer, or a round. */
static bool is_in_hook(struct pp__supervisor *s, uint32_t entry)
{
	const struct pp__worker *line = s->shared->workers + entry;
	uint32_t phase = atomic_load(&line->phase);
	bool in_round = may_be_in_round(s, entry);

	if (phase == PP__LEAVING && s->shared->header->finalizer)
		return true;
	if (phase == PP__STARTING && !s->children[entry].worked)
		return true;
	return in_round && atomic_load(&line->cur) == PP__NO_SLOT;
}

/*
 * There is work, or the executor is closing; it seems to have nothing at hand, and its token has been there for a
 * second: it is in a task whose slot or line was overwritten, or it is stopped. Whatever it is in, no future depends on
 * it any more, so it is replaced, or ends, unless it writes a core file; once it is condemned, it starts no task between
 * this look and the signal, or is seen to have claimed one.
 */
static void replace_if_deaf(struct pp__supervisor *s, uint32_t entry, int64_t now)
{
	struct pp__worker *line = s->shared->workers + entry;
	struct pp__child *child = &s->children[entry];
	struct pp__cell *cell;
	uint64_t tasks = atomic_load(&line->tasks);

	if (child->killed_ns || is_in_hook(s, entry) || !pp__sem_has_token(&line->wake) || tasks != child->last_tasks
	    || !(atomic_load(&s->shared->header->closing) || pp__has_work(s))) {
		child->deaf_ns = 0;
		return;
	}
	if (!child->deaf_ns)
		child->deaf_ns = now;
	if (now - child->deaf_ns < PP__STOPPED_NS || pp__is_dumping(child->pid))
		return;
	atomic_store(&line->condemned, 1);
	if (!pp__word_at_hand(s, entry, &cell))
		pp__kill_worker(s, entry, SIGKILL);
}

/* Whoever sleeps has to hear of the closing. All were woken once, but for those whose pid in their line was overwritten;
 * and a token may have been. */
static void rouse_if_closing(const struct pp__supervisor *s, uint32_t entry)
{
	struct pp__worker *line = s->shared->workers + entry;

	if (atomic_load(&s->shared->header->closing) && !pp__sem_has_token(&line->wake))
		pp__wake_worker(s->shared, entry);
}

/* A worker that dies of a crash has handed on its seat, and has given way to everybody so that its caller hears first
 * (crash.c). That was long enough: on a busy machine it would else hold its entry for seconds. */
static void hurry_if_dying(struct pp__supervisor *s, uint32_t entry, int64_t now)
{
	const struct pp__worker *line = s->shared->workers + entry;
	struct pp__child *child = &s->children[entry];
	struct sched_param zero = { 0 };

	if (atomic_load(&line->seat) >= 0 || atomic_load(&s->shared->control->spare) == entry + 1
	    || atomic_load(&line->phase) != PP__LIVE || child->hurried)
		return;
	if (!child->dying_ns)
		child->dying_ns = now;
	if (now - child->dying_ns < PP__DYING_NS)
		return;
	child->hurried = true;
	sched_setscheduler(child->pid, SCHED_OTHER, &zero);
}

static int64_t term_grace(const struct pp__supervisor *s)
{
	return s->shared->header->grace_ns ? s->shared->header->grace_ns : PP__GRACE_NS;
}

static void visit(struct pp__supervisor *s, uint32_t entry, int64_t now)
{
	struct pp__child *child = &s->children[entry];
	uint64_t tasks = atomic_load_explicit(&s->shared->workers[entry].tasks, memory_order_relaxed);
	struct pp__cell *cell = NULL;
	uint64_t word = pp__word_at_hand(s, entry, &cell);

	if (word || tasks != child->last_tasks)
		s->busy_ns = now;
	child->due_ns = PP__NEVER;
	if (word) {
		pp__stop_step(s, entry, cell, word, now);
		pp__stop_if_too_large(s, entry, cell, word);
		take_back_claim(s, entry, word, cell, now);
		child->deaf_ns = 0;
	} else {
		rouse_if_closing(s, entry);
		replace_if_deaf(s, entry, now);
	}
	child->last_tasks = tasks;
	if (atomic_load(&s->shared->workers[entry].phase) != PP__STARTING)
		end_if_owner_gone(s, entry, now);
	hurry_if_dying(s, entry, now);
	pp__capture_trim(s, entry);
	if (child->term_ns && !child->killed_ns && now - child->term_ns > term_grace(s))
		pp__kill_worker(s, entry, SIGKILL);
	if (child->killed_ns && now - child->killed_ns > PP__UNKILLABLE_NS)
		pp__quarantine(s, entry);
}

/* Who is there, only the supervisor says, and the parent goes by it: a line that was overwritten would keep the slots of
 * those that died there from being used again, and a future from ending whose word was overwritten to fit. */
static void mend_line(const struct pp__supervisor *s, uint32_t entry)
{
	struct pp__worker *line = s->shared->workers + entry;

	if (!s->children[entry].pid && atomic_load(&line->pid))
		atomic_store(&line->pid, 0);
	if (atomic_load(&line->incarnation) != s->incarnations[entry])
		atomic_store(&line->incarnation, s->incarnations[entry]);
}

void pp__patrol(struct pp__supervisor *s)
{
	int64_t now = pp__now_ns();

	for (uint32_t i = 0; i < s->shared->header->entries; i++) {
		mend_line(s, i);
		if (s->children[i].pid && !s->children[i].quarantined)
			visit(s, i, now);
	}
	if (atomic_load(&s->shared->header->closing) && !s->closing_seen) {
		s->closing_seen = true;
		pp__wake_all(s->shared);
	}
}

static bool has_dying(const struct pp__supervisor *s)
{
	for (uint32_t i = 0; i < s->shared->header->entries; i++)
		if (s->children[i].pid && s->children[i].dying_ns && !s->children[i].hurried)
			return true;
	return false;
}

static bool is_waiting_for(const struct pp__supervisor *s)
{
	for (uint32_t i = 0; i < s->shared->header->entries; i++)
		if ((s->children[i].marked_ns || s->children[i].killed_ns || s->children[i].term_ns) && !s->children[i].quarantined)
			return true;
	return false;
}

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* When the next look is due; PP__NEVER: it is not. */
static int64_t next_look_ns(const struct pp__supervisor *s)
{
	int64_t now = pp__now_ns(), next = s->timed_due_ns;

	if (now - s->busy_ns < PP__CALM_NS || is_waiting_for(s) || atomic_load(&s->shared->header->closing))
		next = earlier(next, now + (s->boot.options.limits.resident_bytes ? PP__WATCH_NS : PP__TICK_NS));
	if (has_dying(s))
		next = earlier(next, now + PP__DYING_NS);
	if (s->next_start_ns > now)
		next = earlier(next, s->next_start_ns);
	for (uint32_t i = 0; i < s->shared->header->entries; i++)
		if (s->children[i].pid && !s->children[i].quarantined)
			next = earlier(next, s->children[i].due_ns);
	return next;
}

/*
 * The time of the next look is published first, and then everything that could make it earlier is looked at once more: a
 * task that was started, or submitted, before its process could see that time is seen here, and a later one nudges.
 */
int64_t pp__patrol_timeout(struct pp__supervisor *s)
{
	_Atomic int64_t *published = &s->shared->control->supervisor_wakes_ns;
	int64_t next, now;

	atomic_store(published, next_look_ns(s));
	pp__patrol(s);
	if (pp__look_at_timed(s))
		return 0;                /* what is ready now may want a worker */
	next = next_look_ns(s);
	atomic_store(published, next);
	now = pp__now_ns();
	return next == PP__NEVER ? -1 : next > now ? next - now : 0;
}
