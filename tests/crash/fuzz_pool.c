/* SPDX-License-Identifier: MIT */
/*
 * What belongs to no future alone: the stacks of completions and notices, the control area, the lines of workers,
 * rings, tallies, and the words of units.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "fuzz.h"
#include "units.h"
#include "wake.h"

#define FUTURES 6u
#define STEPS   24u
#define BLINK_NS INT64_C(20000)

/* ------------------------------------------------------------------ stacks */

struct watched {
	struct ground *ground;
	const struct pp__shared *shared;
	pp_future *futures[FUTURES];
	pp_walk *walk;
	unsigned count, called[FUTURES], walked[FUTURES];
};

static void count_call(pp_future *future, void *watched_)
{
	struct watched *w = watched_;

	for (unsigned i = 0; i < w->count; i++)
		w->called[i] += w->futures[i] == future;
}

/* A slot that one of ours has, where the input asks for it. */
static uint32_t some_link(const struct watched *w, struct feed *feed)
{
	uint8_t which = feed_u8(feed);

	return which == UINT8_MAX ? feed_u32(feed) : which ? w->futures[which % w->count]->slot + 1 : 0;
}

static void forge_cell(struct watched *w, struct feed *feed)
{
	const pp_future *future = w->futures[feed_u8(feed) % w->count];
	struct pp__cell *cell = pp__cell_of(future);
	unsigned how = feed_u8(feed);

	if (how & 1)
		atomic_store(&cell->word, feed_u64(feed));
	if (how & 2)
		atomic_store(&cell->word, pp__word_of(future, (enum pp__state)(feed_u8(feed) & 31))
		                          | (uint64_t)(feed_u8(feed) % 16) << 7 | (how & 64 ? PP__WANT_PUSH : 0));
	if (how & 4)
		atomic_store(&cell->link, some_link(w, feed));
	if (how & 8)
		atomic_store(&cell->notice_link, some_link(w, feed));
	if (how & 16)
		atomic_store(&cell->noticed,
		             how & 32 ? (future->generation & PP__GENERATION_MASK) + 1 : feed_u32(feed));
}

static void forge_stacks(struct watched *w, struct feed *feed)
{
	struct pp__control *c = w->shared->control;
	uint32_t entry = feed_u8(feed) % GROUND_ENTRIES;

	atomic_store(&c->done, some_link(w, feed));
	atomic_store(&c->notices, some_link(w, feed));
	atomic_store(&w->shared->workers[entry].cur, feed_u32(feed));
	atomic_store(&w->shared->workers[entry].pid, feed_u8(feed));
	atomic_store(&c->sleepers[0], feed_u64(feed));
	atomic_store(&c->armed, feed_u8(feed));
	atomic_store(&c->supervisor_pid, 0);
}

static void walk_on(struct watched *w)
{
	pp_future *future;
	int rc = pp_walk_next(w->walk, &future);

	MUST(rc == 1 || rc == 0 || rc == -ETIMEDOUT);
	for (unsigned i = 0; i < w->count; i++)
		w->walked[i] += rc == 1 && w->futures[i] == future;
}

static void await_blink(pp_executor *ex)
{
	pthread_mutex_lock(&pp__lock);
	pp__await_news(ex, pp__now_ns() + BLINK_NS);
	pthread_mutex_unlock(&pp__lock);
}

static void step(struct watched *w, unsigned what, struct feed *feed)
{
	pp_executor *ex = w->ground->ex;

	switch (what) {
	case 0: forge_cell(w, feed); break;
	case 1: forge_stacks(w, feed); break;
	case 2: MUST(pp_executor_dispatch(ex, feed_u8(feed)) >= 0); break;
	case 3: walk_on(w); break;
	case 4: await_blink(ex); break;
	case 5: pp__tend_future(w->futures[feed_u8(feed) % w->count]); break;
	case 6: MUST(pp_wait(w->futures, w->count, (enum pp_when)(feed_u8(feed) % 3), 0) >= 0); break;
	case 7: pp_future_cancel(w->futures[feed_u8(feed) % w->count]); break;
	case 8: pp__tend(ex); break;
	default: pp_future_state(w->futures[what % w->count]);
	}
}

/* Everything ends, and is told of, once. */
static void end_all(struct watched *w)
{
	memcpy(w->shared->workers, w->ground->lines, sizeof w->ground->lines);
	for (unsigned i = 0; i < w->count; i++)
		if (!pp__future_has_ended(w->futures[i]))
			atomic_store(&pp__cell_of(w->futures[i])->word, pp__word_of(w->futures[i], PP__BROKEN));
	pthread_mutex_lock(&pp__lock);
	pp__settle_ended(w->ground->ex);
	pthread_mutex_unlock(&pp__lock);
	while (pp_executor_dispatch(w->ground->ex, 0) > 0)
		;
	while (pp_walk_left(w->walk))
		walk_on(w);
	for (unsigned i = 0; i < w->count; i++) {
		MUST(w->called[i] == 1 && w->walked[i] == 1);
		ground_read(w->ground, w->futures[i]);
	}
}

void fuzz_stacks(struct feed *feed)
{
	struct ground *g = ground_for(1);
	struct watched w = { .ground = g, .shared = &g->ex->segment.shared, .count = 1 + feed_u8(feed) % FUTURES };
	pp_future *detached = NULL;

	for (unsigned i = 0; i < w.count; i++) {
		w.futures[i] = ground_open(g, i % 3 == 2, 0);
		MUST(pp_future_add_done_callback(w.futures[i], count_call, &w) == 0);
	}
	MUST(pp_as_completed(w.futures, w.count, 0, &w.walk) == 0);
	detached = ground_open(g, 0, 0);
	pp_future_free(detached);
	g->ex->inlined = false;
	for (unsigned n = 0; n < STEPS && feed->left; n++)
		step(&w, feed_u8(feed) % 10, feed);
	end_all(&w);
	pp_walk_free(w.walk);
	for (unsigned i = 0; i < w.count; i++)
		pp_future_free(w.futures[i]);
	g->ex->inlined = true;
}

/* ------------------------------------------------------------------ control, lines, rings, tallies */

/* From any place of the control area on, some bytes; but for the pid to which signals would go. */
static void scribble(void *area, size_t room, struct feed *feed)
{
	size_t at = feed_u16(feed) % room, n = feed_u8(feed) % 64 + 1u;
	unsigned char bytes[64];

	feed_bytes(feed, bytes, sizeof bytes);
	memcpy((char *)area + at, bytes, n < room - at ? n : room - at);
}

static void forge_control(struct ground *g, struct feed *feed)
{
	const struct pp__shared *shared = &g->ex->segment.shared;

	switch (feed_u8(feed) % 5) {
	case 0: scribble(shared->control, sizeof *shared->control, feed); break;
	case 1: scribble(shared->workers, GROUND_ENTRIES * sizeof *shared->workers, feed); break;
	case 2: scribble(shared->tallies, PP__TALLIES(GROUND_ENTRIES) * sizeof *shared->tallies, feed); break;
	case 3: atomic_store(&shared->control->heads[feed_u8(feed) % PP__LEVELS], feed_u64(feed)); break;
	default: scribble(shared->cells, 4 * sizeof *shared->cells, feed);
	}
	atomic_store(&shared->control->supervisor_pid, 0);
}

static void check_stats(pp_executor *ex)
{
	pp_stats stats = PP_STATS_INIT;
	pid_t pids[2];
	int n;

	MUST(pp_executor_stats(ex, &stats) == 0);
	MUST(stats.workers <= GROUND_ENTRIES && stats.busy <= GROUND_ENTRIES);
	MUST(stats.pending + stats.running <= GROUND_SLOTS);
	n = pp_executor_workers(ex, pids, 2);
	MUST(n >= 0 && n <= (int)GROUND_ENTRIES && (n < 1 || pids[0] > 0));
}

static void check_broken(pp_executor *ex)
{
	const pp_outcome *o = pp_executor_broken(ex);

	if (!o)
		return;
	MUST(o->kind == PP_BROKEN && o->code < 0 && strlen(o->message) < PP__TEXT);
	for (const char *c = o->message; *c; c++)
		MUST((unsigned char)*c >= ' ');
}

static void check_rings(pp_executor *ex, unsigned level)
{
	const struct pp__shared *shared = &ex->segment.shared;
	struct pp__ring_writer *ring = &ex->rings[level % PP__LEVELS];
	struct pp__ring_at at;
	uint32_t slot;

	MUST(pp__ring_waiting(ring, shared) <= ring->capacity);
	slot = pp__ring_peek(shared, ring->level, &at);
	MUST(slot == PP__NO_SLOT || slot < atomic_load(&ex->slots));
	pp__ring_has_ready(shared);
	if (level & 4)
		pp__ring_repair(ring, &ex->segment);
	if (level & 8)
		MUST(pp__ring_push(ring, &ex->segment, 0) == 0);
	MUST(!(level & 4) || pp__ring_is_sane(ring, shared));
}

static void count_line(int level, const char *text, void *context)
{
	(void)context;
	MUST(level >= 0 && strlen(text) < PP__TEXT + 100);
}

static int no_round(pp_task *task, const void *data, size_t size)
{
	(void)task;
	(void)data;
	(void)size;
	return 0;
}

/* Also where it is broken: the lines are read all the same when that happens in the middle of a round. */
static void try_round(pp_executor *ex)
{
	struct pp__box *broken = atomic_exchange(&ex->broken, NULL);
	int rc = pp_executor_run_on_workers(ex, no_round, "data", 4, 0);

	MUST((rc >= 0 && rc <= (int)GROUND_ENTRIES) || rc == -ETIMEDOUT || rc == -EPIPE);
	if (broken && atomic_load(&ex->broken))
		pp__box_free(broken);
	else if (broken)
		atomic_store(&ex->broken, broken);
}

/* Whether that was in good order, shared memory says. */
static void lose_supervisor(pp_executor *ex)
{
	struct pp__identity before = ex->supervisor;

	ex->supervisor = (struct pp__identity){ .pid = 0x3fffff00, .start_ticks = 1 };
	pp__tend(ex);
	ex->supervisor = before;
}

static void look_at_pool(struct ground *g, unsigned what, struct feed *feed)
{
	pp_executor *ex = g->ex;
	int rc;

	switch (what) {
	case 0: check_stats(ex); break;
	case 1: check_broken(ex); break;
	case 2: check_rings(ex, feed_u8(feed)); break;
	case 3: pp__tend(ex); break;
	case 4:
		rc = pp_executor_resize(ex, 1 + feed_u8(feed) % 3);
		MUST(rc == 0 || rc == -EPIPE);
		break;
	case 5: try_round(ex); break;
	case 6:
		ex->log = count_line;
		pp__log_news(ex);
		ex->log = NULL;
		break;
	case 7: pp__demand_again(ex); break;
	case 8: pp__wake_one(&ex->segment.shared); break;
	case 9: lose_supervisor(ex); break;
	default: pp__wake_all(&ex->segment.shared);
	}
}

void fuzz_pool(struct feed *feed)
{
	unsigned how = feed_u8(feed);
	struct ground *g = ground_for(how);
	pp_future *futures[4] = { NULL };
	unsigned count = how >> 1 & 3;

	for (unsigned i = 0; i < count; i++)
		futures[i] = ground_open(g, 0, how & 8 ? 1000000 : 0);
	g->ex->inlined = false;
	for (unsigned n = 0; n < STEPS && feed->left; n++) {
		unsigned what = feed_u8(feed) % 21;
		if (what < 10)
			forge_control(g, feed);
		else
			look_at_pool(g, what - 10, feed);
		if (what == 19 && count)
			pp__tend_future(futures[0]);
	}
	for (unsigned i = 0; i < count; i++) {
		ground_read(g, futures[i]);
		pp_future_free(futures[i]);
	}
	g->ex->inlined = true;
}

/* ------------------------------------------------------------------ units */

static uint64_t some_claim(struct feed *feed)
{
	uint8_t how = feed_u8(feed);

	if (how == UINT8_MAX)
		return feed_u64(feed);
	return (uint64_t)(how & 1) << 63 | (uint64_t)(how >> 1 & 7) << 32 | (how >> 4 & 7);
}

static void check_claimed(const struct pp__shared *shared, int64_t offset, uint64_t size)
{
	const struct pp__header *h = shared->header;

	if (offset >= 0)
		MUST((uint64_t)offset >= h->small_units && (uint64_t)offset + size <= h->mutables);
	else
		MUST(offset == -ENOMEM || offset == -ENOSPC);
}

static void step_units(struct ground *g, const pp_future *future, struct pp__unit_cursor *cursor, struct feed *feed)
{
	const struct pp__shared *shared = &g->ex->segment.shared;
	struct pp__cell *cell = pp__cell_of(future);
	unsigned what = feed_u8(feed);
	uint32_t first = what & 8 ? shared->header->small_count : 0;
	uint64_t claim = some_claim(feed), size = feed_u32(feed) % (what & 64 ? 1u << 20 : PP__SMALL_MAX);

	switch (what % 7) {
	case 0:
		first += feed_u8(feed) % GROUND_BIG;
		atomic_store(shared->units + first, feed_u64(feed));
		break;
	case 1:
		first = what & 16 ? feed_u32(feed) : feed_u8(feed) % GROUND_SMALL;
		atomic_store(&shared->control->units_used[what >> 3 & 1], first);
		if (what & 32)
			atomic_store(&shared->control->units_front[what >> 3 & 1], first);
		break;
	case 2:
		check_claimed(shared, pp__units_claim(shared, cursor, future->slot, future->generation, size), size);
		break;
	case 3: pp__units_release(shared, future->slot, future->generation, claim); break;
	case 4:
		if (pp__units_are_owned(shared, future->slot, future->generation, claim, size))
			check_claimed(shared, (int64_t)pp__units_offset(shared->header, claim), pp__units_room(claim));
		break;
	case 5: pp__units_freed(shared, &g->ex->results, claim, what & 8 ? 0 : size); break;
	default:
		atomic_store(&cell->claim, what & 8 ? ground_name_units(g, future, claim) : claim);
		pp__units_shrink(shared, future->slot, future->generation, size);
	}
}

void fuzz_units(struct feed *feed)
{
	struct ground *g = ground_for(0);
	struct spec spec = { 8, 0 };
	pp_future *future = ground_ended(g, &spec, ARGUMENT_INLINE);
	struct pp__unit_cursor cursor = { .last = { feed_u8(feed), feed_u8(feed) } };

	for (unsigned n = 0; n < STEPS && feed->left; n++)
		step_units(g, future, &cursor, feed);
	pp_future_free(future);
}
