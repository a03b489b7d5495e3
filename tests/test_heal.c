/* SPDX-License-Identifier: MIT */
/*
 * White box: what tasks have overwritten in shared memory, and what waits make of it. Each task here forges one thing;
 * without the look that is tested, the wait would never end.
 */
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include "pool.h"
#include "stage.h"
#include "wake.h"

struct forgery { struct pp__shared shared; struct gate gate; };

/* A gate, an executor of n workers, and what its tasks need to do harm. */
static pp_executor *forgery_begin(struct forgery *f, int n)
{
	pp_executor *ex;

	gate_make(&f->gate);
	ex = support_executor(n);
	f->shared = ex->segment.shared;
	return ex;
}

static void forgery_end(struct forgery *f, pp_executor *ex)
{
	pp_executor_free(ex);
	gate_destroy(&f->gate);
}

/* Its own end will not be pushed on the completion stack. */
static int task_drop_push(pp_task *task, const void *data, size_t size)
{
	struct forgery f;
	uint32_t slot;

	(void)size;
	memcpy(&f, data, sizeof f);
	if (gate_pass(&f.gate))
		return -1;
	for (slot = 0; slot < PP__SLAB; slot++)
		if (pp__word_state(atomic_load(&f.shared.cells[slot].word)) == PP__RUNNING)
			atomic_fetch_and(&f.shared.cells[slot].word, ~PP__WANT_PUSH);
	return pp_return(task, "x", 1);
}

static void wait_for_it(void *future)
{
	pp_future *one = future;

	pp_wait(&one, 1, PP_ALL_COMPLETED, PP_FOREVER);
}

START_TEST(push_lost_wait_ends)
{
	struct sleeper sleeper;
	struct forgery f;
	pp_executor *ex;
	pp_future *future;

	ex = forgery_begin(&f, 1);
	future = support_submit(ex, task_drop_push, &f, sizeof f);
	gate_await(&f.gate, 1);
	sleeper_start(&sleeper, wait_for_it, future);
	gate_open(&f.gate, 1);
	sleeper_join(&sleeper);
	support_assert_returned(future, "x", 1);
	pp_future_free(future);
	forgery_end(&f, ex);
}
END_TEST

static void count_it(pp_future *future, void *count)
{
	(void)future;
	atomic_fetch_add((atomic_int *)count, 1);
}

START_TEST(push_lost_callback_runs)
{
	struct forgery f;
	atomic_int calls = 0;
	pp_executor *ex;
	pp_future *future;

	ex = forgery_begin(&f, 1);
	future = support_submit(ex, task_drop_push, &f, sizeof f);
	gate_await(&f.gate, 1);
	ck_assert_int_eq(pp_future_add_done_callback(future, count_it, &calls), 0);
	gate_open(&f.gate, 1);
	until_count(&calls, 1, "the callback has run");
	pp_future_free(future);
	forgery_end(&f, ex);
}
END_TEST

/* Makes a slot that waits in the ring look as if this worker had it. */
static int task_forge_owner(pp_task *task, const void *data, size_t size)
{
	struct forgery f;
	_Atomic uint64_t *word;
	uint64_t mine = 0;

	(void)size;
	memcpy(&f, data, sizeof f);
	for (uint32_t slot = 0; slot < PP__SLAB; slot++)
		if (pp__word_state(atomic_load(&f.shared.cells[slot].word)) == PP__RUNNING)
			mine = atomic_load(&f.shared.cells[slot].word) & PP__OWNER_BITS;
	if (gate_pass(&f.gate))
		return -1;
	for (uint32_t slot = 0; slot < PP__SLAB; slot++) {
		word = &f.shared.cells[slot].word;
		if (pp__word_state(atomic_load(word)) == PP__READY)
			atomic_store(word, (atomic_load(word) & ~(UINT64_C(31) | PP__OWNER_BITS)) | mine | PP__RUNNING);
	}
	return pp_return(task, "", 0);
}

START_TEST(running_with_nobody_breaks)
{
	struct forgery f;
	pp_executor *ex;
	pp_future *forger, *victim;

	ex = forgery_begin(&f, 1);
	forger = support_submit(ex, task_forge_owner, &f, sizeof f);
	gate_await(&f.gate, 1);
	victim = support_submit(ex, task_echo, "v", 1);
	gate_open(&f.gate, 1);
	support_assert_kind(victim, PP_BROKEN);
	support_assert_kind(forger, PP_RETURNED);
	pp_future_free(forger);
	pp_future_free(victim);
	forger = support_submit(ex, task_echo, "on", 2);
	support_assert_returned(forger, "on", 2);
	pp_future_free(forger);
	forgery_end(&f, ex);
}
END_TEST

/* As a worker does that is about to ring for a slot which was found without that: takes the request, and dies. */
static int task_take_request_and_die(pp_task *task, const void *data, size_t size)
{
	struct forgery f;

	(void)task;
	(void)size;
	memcpy(&f, data, sizeof f);
	atomic_store(&f.shared.control->armed, 0);
	raise(SIGKILL);
	return 0;
}

START_TEST(request_dies_with_its_taker)
{
	struct forgery f;
	atomic_int calls = 0;
	pp_options options = support_options(2);
	struct pollfd fd = { .events = POLLIN };
	pp_executor *ex;
	pp_future *waited, *taker;

	gate_make(&f.gate);
	options.flags = PP_SELF_DISPATCH;
	ex = support_create(&options);
	fd.fd = pp_executor_fd(ex);
	waited = support_submit(ex, task_gate, &f.gate, sizeof f.gate);
	gate_await(&f.gate, 1);
	ck_assert_int_eq(pp_future_add_done_callback(waited, count_it, &calls), 0);
	pp_executor_dispatch(ex, 0);
	f.shared = ex->segment.shared;
	taker = support_submit(ex, task_take_request_and_die, &f, sizeof f);
	support_assert_kind(taker, PP_CRASHED);
	/* An application that does nothing but what the descriptor tells it. */
	if (poll(&fd, 1, SUPPORT_GUARD_MS / 10) == 1)
		pp_executor_dispatch(ex, 0);
	gate_open(&f.gate, 1);
	while (!calls && poll(&fd, 1, SUPPORT_GUARD_MS) == 1)
		pp_executor_dispatch(ex, 0);
	ck_assert_int_eq(calls, 1);
	pp_future_free(waited);
	pp_future_free(taker);
	forgery_end(&f, ex);
}
END_TEST

/* The word where the supervisor puts back what a dead worker had claimed, and a slot that is not ready. */
static int task_forge_requeue(pp_task *task, const void *data, size_t size)
{
	struct forgery f;

	(void)size;
	memcpy(&f, data, sizeof f);
	atomic_store(&f.shared.workers[f.shared.header->entries - 1].requeue, 200);
	return pp_return(task, "", 0);
}

START_TEST(requeue_forged_shutdown_ends)
{
	struct forgery f;
	pp_executor *ex;
	pp_future *forger;

	ex = forgery_begin(&f, 2);
	forger = support_submit(ex, task_forge_requeue, &f, sizeof f);
	support_assert_kind(forger, PP_RETURNED);
	pp_future_free(forger);
	ck_assert_int_eq(pp_executor_shutdown(ex, PP_SHUTDOWN_WAIT, SUPPORT_GUARD_MS), 0);
	forgery_end(&f, ex);
}
END_TEST

/* Ends its own future behind its worker's back, makes the worker look as if it had nothing at hand, and stays. */
static int task_end_and_stay(pp_task *task, const void *data, size_t size)
{
	struct forgery f;
	struct pp__cell *cell;

	(void)size;
	memcpy(&f, data, sizeof f);
	for (uint32_t slot = 0; slot < PP__SLAB; slot++) {
		cell = &f.shared.cells[slot];
		if (pp__word_state(atomic_load(&cell->word)) == PP__RUNNING)
			pp__slot_publish(cell, atomic_load(&cell->word));
	}
	pause();
	return pp_return(task, "", 0);
}

START_TEST(deaf_worker_replaced)
{
	struct forgery f;
	pp_executor *ex;
	pp_future *deaf, *next;

	ex = forgery_begin(&f, 1);
	deaf = support_submit(ex, task_end_and_stay, &f, sizeof f);
	support_assert_kind(deaf, PP_RAISED);
	next = support_submit(ex, task_echo, "next", 4);
	support_assert_returned(next, "next", 4);
	pp_future_free(deaf);
	pp_future_free(next);
	forgery_end(&f, ex);
}
END_TEST

/* No bit in the map of sleepers, and nobody is searching. */
static int task_empty_map(pp_task *task, const void *data, size_t size)
{
	struct forgery f;

	(void)size;
	memcpy(&f, data, sizeof f);
	if (gate_pass(&f.gate))
		return -1;
	for (unsigned i = 0; i < PP__MAP_WORDS; i++)
		atomic_store(&f.shared.control->sleepers[i], 0);
	if (gate_pass(&f.gate))
		return -1;
	return pp_return(task, "", 0);
}

static bool sleeps(void *ex_)
{
	return pp__sleepers_any(&((pp_executor *)ex_)->segment.shared);
}

START_TEST(sleeper_out_of_map_roused)
{
	struct forgery f;
	pp_executor *ex;
	pp_future *forger, *next;

	ex = forgery_begin(&f, 2);
	forger = support_submit(ex, task_empty_map, &f, sizeof f);
	gate_await(&f.gate, 1);
	next = support_submit(ex, task_echo, "one", 3);          /* makes the second worker, */
	support_assert_returned(next, "one", 3);
	pp_future_free(next);
	support_until(sleeps, ex, "the second worker sleeps");
	gate_open(&f.gate, 1);
	gate_await(&f.gate, 1);
	next = support_submit(ex, task_echo, "two", 3);          /* which nobody finds any more */
	support_assert_returned(next, "two", 3);
	gate_open(&f.gate, 1);
	support_assert_kind(forger, PP_RETURNED);
	pp_future_free(forger);
	pp_future_free(next);
	forgery_end(&f, ex);
}
END_TEST

/* Its own word is none any more, and it stays at the gate. */
static int task_garble_word(pp_task *task, const void *data, size_t size)
{
	struct forgery f;

	(void)size;
	memcpy(&f, data, sizeof f);
	for (uint32_t slot = 0; slot < PP__SLAB; slot++)
		if (pp__word_state(atomic_load(&f.shared.cells[slot].word)) == PP__RUNNING)
			atomic_store(&f.shared.cells[slot].word, UINT64_C(0x4141414141414141));
	gate_pass(&f.gate);
	return pp_return(task, "", 0);
}

START_TEST(kill_of_garbled_word)
{
	struct forgery f;
	pp_executor *ex;
	pp_future *garbled;

	ex = forgery_begin(&f, 1);
	garbled = support_submit(ex, task_garble_word, &f, sizeof f);
	gate_await(&f.gate, 1);
	ck_assert_int_eq(pp_future_kill(garbled), 0);
	support_assert_kind(garbled, PP_BROKEN);
	gate_open(&f.gate, 1);
	pp_future_free(garbled);
	forgery_end(&f, ex);
}
END_TEST

/* A mutex of a kind with which glibc would end whoever tries it. */
static int task_garble_mutex(pp_task *task, const void *data, size_t size)
{
	struct forgery f;

	(void)task;
	(void)size;
	memcpy(&f, data, sizeof f);
	for (uint32_t i = 0; i < f.shared.header->entries; i++)
		memset((void *)&f.shared.workers[i].life, 0x41, sizeof f.shared.workers[i].life);
	raise(SIGKILL);
	return 0;
}

START_TEST(mutex_garbled_supervisor_lives)
{
	struct forgery f;
	pp_executor *ex;
	pp_future *garbler, *next;

	ex = forgery_begin(&f, 1);
	garbler = support_submit(ex, task_garble_mutex, &f, sizeof f);
	support_assert_kind(garbler, PP_CRASHED);
	next = support_submit(ex, task_echo, "next", 4);
	support_assert_returned(next, "next", 4);
	pp_future_free(garbler);
	pp_future_free(next);
	forgery_end(&f, ex);
}
END_TEST

/* What still knows a task that was there before, a late stop or an entry of a stack, does not mean the one that is now. */
START_TEST(slot_used_again_is_another)
{
	struct forgery f;
	pp_executor *ex = forgery_begin(&f, 1);
	pp_future *future = support_submit(ex, task_nothing, NULL, 0);
	uint32_t slot = future->slot, generation = future->generation;
	uint64_t stopped = 0;

	do {
		support_assert_kind(future, PP_RETURNED);
		pp_future_free(future);
		future = support_submit(ex, task_gate, &f.gate, sizeof f.gate);
		gate_await(&f.gate, 1);
		if (future->slot == slot)
			stopped = pp__slot_stop_kill(ex->segment.shared.cells + slot, generation);
		gate_open(&f.gate, 1);
	} while (future->slot != slot);
	support_assert_kind(future, PP_RETURNED);
	ck_assert(!stopped);
	pp_future_free(future);
	forgery_end(&f, ex);
}
END_TEST

/* What is no slot yet has no memory: on a full file system a look at it would be a SIGBUS. */
START_TEST(no_look_beyond_the_slots)
{
	struct forgery f;
	pp_executor *ex = forgery_begin(&f, 1);
	pp_future *future = support_submit(ex, task_nothing, NULL, 0);
	struct pp__cell *beyond = f.shared.cells + atomic_load(&f.shared.header->slots);

	support_assert_kind(future, PP_RETURNED);
	ck_assert_int_eq(mprotect(beyond, PP__PAGE, PROT_NONE), 0);
	atomic_store(&f.shared.workers[1].cur, atomic_load(&f.shared.header->slots));
	ck_assert(!pp__worker_is_busy(&f.shared, 1));
	ck_assert_int_eq(mprotect(beyond, PP__PAGE, PROT_READ | PROT_WRITE), 0);
	pp_future_free(future);
	forgery_end(&f, ex);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("heal");
	TCase *heal = support_tcase(suite, "heal");

	tcase_add_test(heal, push_lost_wait_ends);
	tcase_add_test(heal, push_lost_callback_runs);
	tcase_add_test(heal, running_with_nobody_breaks);
	tcase_add_test(heal, request_dies_with_its_taker);
	tcase_add_test(heal, requeue_forged_shutdown_ends);
	tcase_add_test(heal, deaf_worker_replaced);
	tcase_add_test(heal, sleeper_out_of_map_roused);
	tcase_add_test(heal, kill_of_garbled_word);
	tcase_add_test(heal, mutex_garbled_supervisor_lives);
	tcase_add_test(heal, slot_used_again_is_another);
	tcase_add_test(heal, no_look_beyond_the_slots);
	return suite;
}

SUPPORT_MAIN(make_suite)
