/* SPDX-License-Identifier: MIT */
/*
 * Starting workers. How many is decided from the number that live and the number that the load asks for, never from a
 * count of events, so that none is lost or started twice.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "capture.h"
#include "ring.h"
#include "slot.h"
#include "supervisor.h"
#include "wake.h"

#define BACK_OFF_NS     INT64_C(10000000)        /* after the first failure in a row; doubles */
#define BACK_OFF_MAX    6

static bool is_live(const struct pp__supervisor *s, uint32_t entry)
{
	const struct pp__child *child = &s->children[entry];

	return child->pid && !child->quarantined && !child->killed_ns;
}

/* A seat beyond the number of workers is none any more; who has it leaves. */
static int32_t seat_of(const struct pp__supervisor *s, uint32_t entry)
{
	int32_t seat = atomic_load(&s->shared->workers[entry].seat);

	return seat < (int32_t)s->shared->header->max_workers ? seat : -1;
}

unsigned pp__seated(const struct pp__supervisor *s)
{
	unsigned n = 0;

	for (uint32_t i = 0; i < s->shared->header->entries; i++)
		n += is_live(s, i) && seat_of(s, i) >= 0
		     && atomic_load(&s->shared->workers[i].phase) != PP__LEAVING;
	return n;
}

static int32_t free_seat(const struct pp__supervisor *s)
{
	for (int32_t seat = 0; seat < (int32_t)s->shared->header->max_workers; seat++) {
		bool taken = false;
		for (uint32_t i = 0; i < s->shared->header->entries && !taken; i++)
			taken = is_live(s, i) && seat_of(s, i) == seat;
		if (!taken)
			return seat;
	}
	return -1;
}

static uint32_t free_entry(const struct pp__supervisor *s)
{
	for (uint32_t i = 0; i < s->shared->header->entries; i++)
		if (!s->children[i].pid && !s->children[i].quarantined)
			return i;
	return PP__NO_SLOT;
}

/* A robust mutex, so that the kernel marks the end of its owner. It is made anew for each incarnation, never unlocked. */
void pp__life_make(pthread_mutex_t *life)
{
	pthread_mutexattr_t attributes;

	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(life, &attributes);
	pthread_mutexattr_destroy(&attributes);
}

static int prepare_line(const struct pp__supervisor *s, uint32_t entry, int32_t seat)
{
	struct pp__worker *line = s->shared->workers + entry;
	pthread_mutex_t *life = pp__life_of(s->shared, entry);
	int rc = life != &line->life ? pp__memory_commit_at(life, sizeof *life) : 0;

	if (rc < 0 && rc != -EINVAL)     /* -EINVAL: this kernel cannot; the first touch will tell */
		return rc;
	atomic_store(&line->wake.token, 0);
	pp__life_make(life);
	atomic_store(&line->cur, PP__NO_SLOT);
	atomic_store(&line->tasks, 0);
	atomic_store(&line->condemned, 0);
	atomic_store(&line->incarnation, s->incarnations[entry]);
	line->init_code = 0;
	atomic_store(&line->crash.tag, 0);
	atomic_store(&line->stack.claim, 0);
	line->stack.size = 0;
	line->text[0] = 0;
	atomic_store(&line->resident, 0);
	atomic_store(&line->seat, seat);
	atomic_store(&line->phase, PP__STARTING);
	return 0;
}

static int spawn(struct pp__supervisor *s, uint32_t entry, int32_t seat)
{
	uint32_t round = pp__levels_round(atomic_load(&s->shared->header->levels));
	pid_t pid;
	int rc = pp__capture_make(s, entry);

	if (rc < 0)
		return rc;
	rc = prepare_line(s, entry, seat);
	if (rc < 0) {
		pp__capture_drop(s, entry);
		return rc;
	}
	pid = fork();
	if (pid == 0)
		pp__enter_worker(s, entry);
	if (pid < 0) {
		rc = -errno;
		pp__capture_drop(s, entry);
		atomic_store(&s->shared->workers[entry].phase, PP__GONE);
		return rc;
	}
	setpgid(pid, pid);               /* both sides do it: whoever comes first */
	s->children[entry] = (struct pp__child){ .pid = pid, .capture = s->children[entry].capture, .round = round };
	atomic_store(&s->shared->workers[entry].pid, pid);
	atomic_fetch_add(&s->shared->control->restarts, 1);
	if (s->unreplaced) {
		s->unreplaced--;
		atomic_fetch_add(&s->shared->control->replaced, 1);
	}
	if (seat < 0)
		atomic_store(&s->shared->control->spare, entry + 1);
	return 0;
}

void pp__break_pool(struct pp__supervisor *s, int error, const char *text)
{
	struct pp__control *c = s->shared->control;

	if (atomic_load(&c->broken))
		return;
	snprintf(c->broken_text, PP__TEXT, "%s", text);
	atomic_store(&c->broken, error);
	for (uint32_t i = 0; i < s->shared->header->entries; i++)
		pp__kill_worker(s, i, SIGKILL);
	pp__sem_post(&c->bell);
	atomic_fetch_add(&c->fd_requests, 1);
}

/* The n-th thing in a row that speaks against starting one more at once. */
static void back_off(struct pp__supervisor *s, int32_t n)
{
	int64_t until = pp__now_ns() + (BACK_OFF_NS << (n <= BACK_OFF_MAX ? n - 1 : BACK_OFF_MAX));

	if (until > s->next_start_ns)
		s->next_start_ns = until;
}

/* Each worker that has got to a task breaks the row of those that did not. */
void pp__note_first_tasks(struct pp__supervisor *s)
{
	for (uint32_t i = 0; i < s->shared->header->entries; i++) {
		struct pp__child *child = &s->children[i];
		if (!child->pid || child->worked || !atomic_load(&s->shared->workers[i].tasks))
			continue;
		child->worked = true;
		s->early_deaths = 0;
	}
}

void pp__count_early_death(struct pp__supervisor *s, uint32_t entry)
{
	pp__note_first_tasks(s);
	if (!s->children[entry].worked && ++s->early_deaths > 1)
		back_off(s, s->early_deaths - 1);        /* one is an accident */
}

/* A start failed by fork, or by the initializer. In a row means: no initializer has succeeded in between. */
void pp__count_start_failure(struct pp__supervisor *s, int error, const char *text, bool breaks_now)
{
	uint32_t initialized = atomic_load(&s->shared->control->initialized);

	if (initialized != s->initialized_at_failure)
		s->failures = 0;
	s->initialized_at_failure = initialized;
	s->failures++;
	if (breaks_now || s->failures >= s->shared->header->start_attempts) {
		pp__break_pool(s, error, text);
		return;
	}
	back_off(s, s->failures);
}

static bool may_start(const struct pp__supervisor *s)
{
	return !atomic_load(&s->shared->control->broken) && pp__now_ns() >= s->next_start_ns;
}

/* Dying workers have given way to everybody (crash.c). When all entries wait for their ends, they have to get on. */
static void hurry_the_dying(const struct pp__supervisor *s)
{
	struct sched_param zero = { 0 };

	for (uint32_t i = 0; i < s->shared->header->entries; i++)
		if (s->children[i].pid)
			sched_setscheduler(s->children[i].pid, SCHED_OTHER, &zero);
}

/* Whether a worker has got as far as tasks: one that is being started may fail like this one. A create that waits for all
 * of them would wait for ever. */
static bool works_on(const struct pp__supervisor *s)
{
	const struct pp__header *h = s->shared->header;
	uint32_t all = (uint32_t)s->boot.options.max_workers;    /* as of create */
	bool lives = false;

	for (uint32_t i = 0; i < h->entries && !lives; i++)
		lives = is_live(s, i) && atomic_load(&s->shared->workers[i].phase) == PP__LIVE;
	return lives && (!(h->flags & PP_START_ALL) || atomic_load(&s->shared->control->initialized) >= all);
}

/* While others live the pool works on, slower: then it is tried again, and that is all. */
void pp__no_worker(struct pp__supervisor *s, int error, const char *what)
{
	char text[PP__TEXT];

	if (works_on(s)) {
		s->next_start_ns = pp__now_ns() + (BACK_OFF_NS << BACK_OFF_MAX);
		return;
	}
	snprintf(text, sizeof text, "no worker can be started: %s: %s", what, strerror(-error));
	pp__count_start_failure(s, error, text, false);
}

/* A spare is only for speed: its failures do not count. */
static bool start_one(struct pp__supervisor *s, int32_t seat)
{
	uint32_t entry = free_entry(s);
	int rc;

	if (entry == PP__NO_SLOT) {
		hurry_the_dying(s);      /* the next death makes room */
		return false;
	}
	rc = spawn(s, entry, seat);
	if (rc == 0)
		return true;
	if (seat < 0)
		s->next_start_ns = pp__now_ns() + (BACK_OFF_NS << BACK_OFF_MAX);
	else
		pp__no_worker(s, rc, "fork");
	return false;
}

/* The seat of a dead worker goes to the spare; also one whose promoter died half-way. */
static bool promote(struct pp__supervisor *s, int32_t seat)
{
	uint32_t spare = atomic_exchange(&s->shared->control->spare, 0);
	int32_t none = -1;

	if (!spare || spare > s->shared->header->entries || !is_live(s, spare - 1))
		return false;
	if (!atomic_compare_exchange_strong(&s->shared->workers[spare - 1].seat, &none, seat))
		return false;            /* a dying worker was faster, with its own */
	pp__wake_worker(s->shared, spare - 1);
	return true;
}

static void seat_the_lost(struct pp__supervisor *s)
{
	uint32_t spare = atomic_load(&s->shared->control->spare);

	for (uint32_t i = 0; i < s->shared->header->entries; i++) {
		uint32_t phase = atomic_load(&s->shared->workers[i].phase);
		if (!is_live(s, i) || i + 1 == spare || atomic_load(&s->shared->workers[i].seat) >= 0 || phase > PP__LIVE)
			continue;
		if (atomic_load(&s->shared->workers[i].cur) != PP__NO_SLOT)
			continue;        /* it had a seat and has handed it on: it is dying */
		atomic_store(&s->shared->control->spare, i + 1);
		return;
	}
}

/* One that was found without a seat may have been about to get one: then it is no spare. */
static void forget_seated_spare(struct pp__supervisor *s)
{
	uint32_t spare = atomic_load(&s->shared->control->spare);

	if (spare && spare <= s->shared->header->entries && atomic_load(&s->shared->workers[spare - 1].seat) >= 0)
		atomic_compare_exchange_strong(&s->shared->control->spare, &spare, 0);
}

/* Work that lies ready while all are busy asks for one more. Looked for twice: the first may be what one of the busy has
 * just claimed. */
static unsigned demanded(const struct pp__supervisor *s)
{
	unsigned busy = 0;

	if (!pp__has_work(s))
		return 0;
	for (uint32_t i = 0; i < s->shared->header->entries; i++)
		busy += is_live(s, i) && seat_of(s, i) >= 0 && pp__worker_is_busy(s->shared, i);
	return pp__has_work(s) ? busy + 1 : 0;
}

/* Where nobody leaves for idleness, a count of those that did was overwritten. */
static unsigned wanted(const struct pp__supervisor *s)
{
	const struct pp__header *h = s->shared->header;
	bool some_leave = s->boot.options.idle_timeout_ms != 0;
	uint64_t counted = atomic_load(&h->wanted);
	uint32_t exits = some_leave ? atomic_load(&s->shared->control->idle_exits) : pp__wanted_exits(counted);
	uint32_t n = pp__wanted_left(counted, exits);
	unsigned least;

	if (atomic_load(&h->closing)) {
		if (pp__has_requeued(s))
			return 1;
		if (!pp__ring_has_ready(s->shared))
			return 0;
	}
	if (some_leave) {
		least = demanded(s);
		n = n < least ? least : n;
	}
	return n < h->max_workers ? n : h->max_workers;
}

void pp__spawn_wanted(struct pp__supervisor *s)
{
	seat_the_lost(s);
	while (pp__seated(s) < wanted(s)) {
		int32_t seat = free_seat(s);
		/* One that is handed on while this looks may be seen with nobody once, but not twice (promote.c). */
		if (seat < 0 || free_seat(s) != seat)
			break;
		if (!promote(s, seat) && (!may_start(s) || !start_one(s, seat)))
			break;
	}
	forget_seated_spare(s);
	if (s->wants_spare && !atomic_load(&s->shared->control->spare) && may_start(s)
	    && !atomic_load(&s->shared->header->closing))
		start_one(s, -1);
}
