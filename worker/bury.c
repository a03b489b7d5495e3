/* SPDX-License-Identifier: MIT */
/*
 * Deaths. In this order: wait for the kernel's word that all threads have ended; look at the robust mutex; kill what is
 * left of the process group; settle the slot that the dead had at hand; only then raise the incarnation and reap, which
 * frees the pid and the entry; then wake whoever may have lost a wake with it. Nothing here asserts on what it finds.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "capture.h"
#include "ring.h"
#include "slot.h"
#include "supervisor.h"
#include "tally.h"
#include "wake.h"

void pp__kill_worker(struct pp__supervisor *s, uint32_t entry, int signal)
{
	struct pp__child *child = &s->children[entry];

	if (!child->pid)
		return;
	if (signal == SIGKILL && !child->killed_ns)
		child->killed_ns = pp__now_ns();
	if (signal == SIGTERM)
		child->term_ns = pp__now_ns();
	if (kill(-child->pid, signal) < 0)
		kill(child->pid, signal);        /* it has not made its group yet */
}

bool pp__has_children(const struct pp__supervisor *s)
{
	for (uint32_t i = 0; i < s->shared->header->entries; i++)
		if (s->children[i].pid && !s->children[i].quarantined)
			return true;
	return false;
}

static uint32_t entry_of(const struct pp__supervisor *s, pid_t pid)
{
	for (uint32_t i = 0; i < s->shared->header->entries; i++)
		if (s->children[i].pid == pid)
			return i;
	return PP__NO_SLOT;
}

/* Orphans of tasks are left to this process, which is a child subreaper. All but workers are killed. */
void pp__kill_strangers(struct pp__supervisor *s)
{
	char path[64], text[4096], *at = text;
	ssize_t n;
	int fd;

	snprintf(path, sizeof path, "/proc/self/task/%d/children", (int)s->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	n = read(fd, text, sizeof text - 1);
	close(fd);
	n = n > 0 ? n : 0;
	text[n] = 0;
	while (n == (ssize_t)sizeof text - 1 && *text && text[strlen(text) - 1] != ' ')
		text[strlen(text) - 1] = 0;      /* a number that is cut off is another process's */
	for (;;) {
		char *end;
		long pid = strtol(at, &end, 10);
		if (end == at)
			return;
		if (pid > 1 && entry_of(s, (pid_t)pid) == PP__NO_SLOT)
			kill((pid_t)pid, SIGKILL);
		at = end;
	}
}

/* Puts the slot where every worker looks before the ring. There are as many words as entries, and a worker empties
 * them before it claims anything else, so one is free. */
static void requeue(struct pp__supervisor *s, uint32_t slot)
{
	for (uint32_t i = 0; i < s->shared->header->entries; i++) {
		uint64_t none = 0, held = pp__held_make(slot, ++s->noted);
		if (!atomic_compare_exchange_strong(&s->shared->workers[i].requeue, &none, held))
			continue;
		atomic_fetch_add(&s->shared->control->requeued, 1);
		atomic_fetch_add(&s->shared->control->requeues, 1);
		return;
	}
}

bool pp__holds_ready(const struct pp__supervisor *s, const _Atomic uint64_t *holder)
{
	uint32_t slot = pp__held_slot(atomic_load(holder));

	return slot < atomic_load(&s->shared->header->slots)
	       && pp__word_state(pp__slot_look(s->shared->cells + slot)) == PP__READY;
}

/* Whether something that was put back, or is offered again, still waits. The counter may have been overwritten: it is raised
 * again, or a fresh worker might not look. */
bool pp__has_requeued(const struct pp__supervisor *s)
{
	for (uint32_t i = 0; i < s->shared->header->entries; i++) {
		if (!pp__holds_ready(s, &s->shared->workers[i].requeue) && !pp__holds_ready(s, &s->shared->workers[i].again))
			continue;
		atomic_fetch_add(&s->shared->control->requeued, 1);
		return true;
	}
	return false;
}

/* Somebody has asked to hear of the next end, or nobody does any more. */
static void ring(struct pp__supervisor *s)
{
	atomic_store(&s->shared->control->armed, 0);
	pp__sem_post(&s->shared->control->bell);
	atomic_fetch_add(&s->shared->control->fd_requests, 1);
}

/* The supervisor's stack of ends that nobody else will announce. A slot is on it at most once. word is the end that is
 * meant: the slot may be another task's by now, if the dead had announced it. */
static void notice(struct pp__supervisor *s, uint32_t slot, uint64_t word)
{
	struct pp__control *c = s->shared->control;
	struct pp__cell *cell = s->shared->cells + slot;
	uint32_t below = atomic_load(&c->notices);

	if (atomic_exchange(&cell->noticed, pp__word_generation(word) + 1) == 0) {
		do
			atomic_store(&cell->notice_link, below);
		while (!atomic_compare_exchange_weak(&c->notices, &below, slot + 1));
	}
	ring(s);
}

void pp__announce_for(struct pp__supervisor *s, uint32_t slot, uint64_t word)
{
	if (word & PP__WANT_WAKE)
		pp__sem_post(&s->shared->cells[slot].wake);
	if (word & PP__WANT_PUSH)
		notice(s, slot, word);
}

static struct pp__ending ending_of(const struct pp__child *child, const siginfo_t *info)
{
	bool exited = info->si_code == CLD_EXITED || child->owner_gone;

	return (struct pp__ending){ .signal = exited ? 0 : info->si_status,
	                           .code = info->si_code == CLD_EXITED ? info->si_status : 0 };
}

/* How many children wait to be reaped that a SIGKILL ended, and not one of ours. */
static uint64_t killed_from_outside(const struct pp__supervisor *s)
{
	uint64_t n = 0;

	for (uint32_t i = 0; i < s->shared->header->entries; i++) {
		const struct pp__child *child = &s->children[i];
		siginfo_t info = { .si_pid = 0 };
		if (child->pid && !child->killed_ns
		    && waitid(P_PID, (id_t)child->pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0)
			n += info.si_pid && info.si_code != CLD_EXITED && info.si_status == SIGKILL;
	}
	return n;
}

/* Whether the kernel killed it for want of memory; each such kill accounts for one death. */
static enum pp__memory_cause memory_cause(struct pp__supervisor *s, uint32_t entry, const siginfo_t *info)
{
	const struct pp__child *child = &s->children[entry];
	uint64_t more;

	if (info->si_code == CLD_EXITED || info->si_status != SIGKILL || child->killed_ns || child->asked)
		return PP__MEMORY_NO;
	more = pp__oom_more(&s->oom);
	if (!more)
		return PP__MEMORY_NO;
	s->oom.counted++;
	return s->oom.ours && killed_from_outside(s) <= more ? PP__MEMORY_KERNEL : PP__MEMORY_POSSIBLY;
}

/* Of a task in user code: as what it ends if nothing follows; 0: it is not there. */
static int kind_of(uint64_t word, const struct pp__ending *ending)
{
	enum pp__state state = pp__word_state(word);

	if (pp__state_runs(state))
		return ending->signal ? PP_CRASHED : PP_EXITED;
	return state == PP__STOP_TIME ? PP_TIMED_OUT : state == PP__STOP_MEMORY ? PP_MEMORY : 0;
}

/* Its handler has noted what only it knows, and left the rest to this, because there may be another attempt. */
static void take_noted(const struct pp__crash *crash, uint64_t word, const struct pp__cell *cell, struct pp__ending *ending)
{
	if (atomic_load(&crash->tag) != pp__word_attempt(word) || cell->death_signal != ending->signal)
		return;
	ending->code = cell->death_code;
	ending->address = cell->death_address;
}

/* The task at hand was in user code: nobody but this can end it, but for a parent that stops it meanwhile. */
static void settle_attempt(struct pp__supervisor *s, uint32_t entry, uint32_t slot, const siginfo_t *info)
{
	struct pp__ending ending = ending_of(&s->children[entry], info);
	struct pp__cell *cell = s->shared->cells + slot;
	uint64_t word = pp__slot_look(cell);
	int kind;

	if (pp__state_runs(pp__word_state(word)) && s->children[entry].asked)
		pp__slot_stop_kill(cell, pp__word_generation(word));
	if (pp__state_runs(pp__word_state(word)) && s->children[entry].memory)
		pp__slot_stop(cell, word, PP__STOP_MEMORY);
	word = pp__slot_look(cell);
	kind = kind_of(word, &ending);
	if (kind == PP_CRASHED)
		take_noted(&s->shared->workers[entry].crash, word, cell, &ending);
	if (kind && !s->children[entry].quarantined && pp__try_again_after_death(s, slot, word, kind, &ending))
		return;
	cell->end_ns = (uint64_t)pp__now_ns();
	if (kind == PP_MEMORY)
		cell->death_code = (int32_t)s->children[entry].memory;
	if (!pp__state_runs(pp__word_state(word)))
		return;
	cell->death_signal = ending.signal;
	cell->death_code = ending.code;
	cell->death_address = ending.address;
	if (pp__slot_die(cell, word))
		pp__tally_end(pp__own_tally(s), ending.signal ? PP_CRASHED : PP_EXITED, cell);
}

/* What the dead worker had at hand: only cur is looked at, and only if the slot's word says that it was the owner. */
static void settle(struct pp__supervisor *s, uint32_t entry, const siginfo_t *info)
{
	const struct pp__worker *line = s->shared->workers + entry;
	uint64_t owner = pp__owner(entry, s->incarnations[entry]), word;
	uint32_t slot = atomic_load(&line->cur);
	struct pp__cell *cell;

	if (slot >= atomic_load(&s->shared->header->slots))
		return;
	cell = s->shared->cells + slot;
	word = pp__slot_look(cell);
	if (!pp__word_is_owned_by(word, owner))
		return;
	if (pp__state_runs(pp__word_state(word)) || pp__state_stops(pp__word_state(word)))
		settle_attempt(s, entry, slot, info);
	/* A stop may have come in between; at most one of these finds its edge. */
	if (pp__slot_requeue(cell, owner))
		requeue(s, slot);
	word = pp__slot_stopped(cell, owner);
	if (word)
		pp__tally_end(pp__own_tally(s), pp__word_state(word) == PP__KILLED ? PP_KILLED :
		              pp__word_state(word) == PP__TIMED_OUT ? PP_TIMED_OUT : PP_MEMORY, cell);
	word = pp__slot_look(cell);
	if (pp__state_is_end(pp__word_state(word)) && pp__word_is_owned_by(word, owner))
		pp__announce_for(s, slot, word);
}

/* Whoever the dead was about to wake sleeps on with no bit set; a token more does no harm. So does the parent, if the dead
 * has taken its request for the bell, and the slot that this was for has been found and used again since. */
static void wake_again(struct pp__supervisor *s, uint32_t entry)
{
	struct pp__control *c = s->shared->control;

	pp__sleepers_leave(s->shared, entry);
	atomic_store(&c->searching, 0);
	for (uint32_t i = 0; i < s->shared->header->entries; i++)
		if (s->children[i].pid && !(atomic_load(&c->sleepers[i / 64]) & UINT64_C(1) << i % 64))
			pp__wake_worker(s->shared, i);
	pp__wake_one(s->shared);
	if (!atomic_load(&c->armed))
		ring(s);
}

static void count_failure(struct pp__supervisor *s, uint32_t entry, uint32_t phase, const siginfo_t *info)
{
	const struct pp__worker *line = s->shared->workers + entry;
	char text[PP__TEXT + 64], reason[PP__TEXT];

	memcpy(reason, line->text, sizeof reason);
	reason[sizeof reason - 1] = 0;
	if (phase == PP__SETUP_FAILED) {
		pp__no_worker(s, line->init_code < 0 && line->init_code > -4096 ? line->init_code : -EAGAIN,
		              *reason ? reason : "setting it up");
		return;
	}
	if (phase == PP__INIT_FAILED) {
		snprintf(text, sizeof text, "the initializer failed with code %d%s%s", (int)line->init_code,
		         *reason ? ": " : "", reason);
		pp__count_start_failure(s, -ECANCELED, text, pp__seated(s) == 0);
		return;
	}
	if (info->si_code == CLD_EXITED)
		snprintf(text, sizeof text, "the initializer exited with status %d", info->si_status);
	else
		snprintf(text, sizeof text, "the initializer crashed: signal %d (%s)", info->si_status,
		         strsignal(info->si_status));
	pp__count_start_failure(s, -ECANCELED, text, false);
}

/* Workers that leave while there is work to do will be replaced, and the next of them at once. */
static bool is_recycled(const struct pp__supervisor *s)
{
	return s->shared->header->max_tasks || s->boot.options.limits.growth_bytes;
}

static void bury(struct pp__supervisor *s, uint32_t entry, const siginfo_t *info)
{
	struct pp__child *child = &s->children[entry];
	struct pp__worker *line = s->shared->workers + entry;
	uint32_t phase = atomic_load(&line->phase), spare = entry + 1;
	bool ordered = child->killed_ns || child->term_ns;

	if (!child->marked_ns && pp__owner_has_died(s, entry))
		atomic_fetch_add(&s->shared->control->owner_deaths, 1);
	kill(-child->pid, SIGKILL);
	child->memory = memory_cause(s, entry, info);
	settle(s, entry, info);
	pp__record_death(s, entry);
	pp__capture_drop(s, entry);
	s->timed_due_ns = 0;             /* it may have died before it could tell of an attempt that failed */
	atomic_compare_exchange_strong(&s->shared->control->spare, &spare, 0);
	atomic_store(&line->pid, 0);
	atomic_store(&line->phase, PP__GONE);
	atomic_store(&line->incarnation, ++s->incarnations[entry]);
	waitpid(child->pid, NULL, 0);
	if (phase == PP__LIVE && !ordered)
		pp__count_early_death(s, entry);
	else
		pp__note_first_tasks(s);
	child->pid = 0;
	s->unreplaced++;
	if (phase == PP__SETUP_FAILED || phase == PP__INIT_FAILED || (phase == PP__STARTING && !ordered))
		count_failure(s, entry, phase, info);
	if (phase != PP__LEAVING)
		atomic_fetch_add(&s->shared->control->deaths, 1);
	s->wants_spare |= phase == PP__LIVE || (phase == PP__LEAVING && is_recycled(s));
	*child = (struct pp__child){ 0 };
	wake_again(s, entry);
}

bool pp__reap_all(struct pp__supervisor *s)
{
	bool any = false;

	for (;;) {
		siginfo_t info = { .si_pid = 0 };
		uint32_t entry;
		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || !info.si_pid)
			break;
		any = true;
		entry = entry_of(s, info.si_pid);
		if (entry != PP__NO_SLOT)
			bury(s, entry, &info);
		else
			waitpid(info.si_pid, NULL, WNOHANG);
	}
	return any;
}

/* It did not die of SIGKILL: its future ends all the same, and neither entry nor slot is used again. */
void pp__quarantine(struct pp__supervisor *s, uint32_t entry)
{
	siginfo_t killed = { .si_code = CLD_KILLED, .si_status = SIGKILL };

	s->children[entry].quarantined = true;
	settle(s, entry, &killed);
	atomic_fetch_add(&s->shared->control->quarantined, 1);
}
