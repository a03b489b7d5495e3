/* SPDX-License-Identifier: MIT */
/*
 * PP_HARDENED: a task that writes where it must not dies of it, and nothing else is harmed. Where things are is known from
 * the inside; the segment's address is the same in all processes.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include "hardened.h"
#include "pool.h"
#include "units.h"

#define INNOCENTS 4

enum place { CELL, OWN_CELL, CONTROL, HEADS, LINE, TALLY, EXTENSION, USAGE, UNIT, RESULT, BLOCK, OWN_UNIT_AFTER, PLACES };

struct stray { enum place place; void *at; };

static int task_stray(pp_task *task, const void *data, size_t size)
{
	struct stray stray;
	char *room;

	memcpy(&stray, data, size);
	if (stray.place == OWN_UNIT_AFTER) {
		room = pp_return_alloc(task, 3 * 4096);
		if (!room || pp_return_commit(task, 4096) < 0)
			return 1;
		room[0] = 1;
		((volatile char *)room)[4096] = 1;       /* by now this may be another's */
	}
	*(volatile char *)stray.at ^= 0x55;
	return 0;
}

/* future: of an innocent; slots are taken in order, so the next one is the stray's own. */
static void *target_of(pp_future *future, enum place place, pp_block *block)
{
	const struct pp__shared *s = &future->executor->segment.shared;
	struct pp__cell *cell = s->cells + future->slot;

	switch (place) {
	case OWN_CELL:  return (void *)(uintptr_t)&cell[1].word;
	case CONTROL:   return (void *)(uintptr_t)&s->control->done;
	case HEADS:     return (void *)(uintptr_t)&s->control->heads[PP__NORMAL];
	case LINE:      return s->workers;
	case TALLY:     return pp__tally_of(s, 0);
	case USAGE:     return s->usages;
	case UNIT:      return (void *)(uintptr_t)s->units;
	case EXTENSION: return s->extensions + (size_t)future->slot * PP__EXTENSION;
	case RESULT:    return s->base + pp__units_offset(s->header, atomic_load(&cell->claim));
	case BLOCK:     return pp_block_data(block);
	default:        return cell->result;
	}
}

static bool is_gone(void *pid)
{
	return kill(*(pid_t *)pid, 0) < 0;
}

/* The innocents have ended, and nobody has looked at what became of them. The handler of the crash opens all, and the
 * write is tried again when it has returned: so they are looked at when the process is gone. */
static void stray(enum place place)
{
	static const size_t of[INNOCENTS] = { 16, 256, 5000, 70000 };
	pp_executor *ex = hardened(2, PP_ACCOUNTING);
	pp_future *innocents[INNOCENTS], *future;
	struct stray s = { .place = place };
	const pp_outcome *o;
	pp_block *block;

	ck_assert_int_eq(pp_block_create(ex, 100, PP_BLOCK_MUTABLE, &block), 0);
	memset(pp_block_data(block), 'b', 100);
	for (int i = 0; i < INNOCENTS; i++)
		innocents[i] = submit_innocent(ex, of[i], i % 2);
	ck_assert_int_eq(pp_wait(innocents, INNOCENTS, PP_ALL_COMPLETED, SUPPORT_GUARD_MS), INNOCENTS);
	s.at = target_of(innocents[place == RESULT ? 2 : place == OWN_CELL ? 3 : place == EXTENSION], place, block);
	future = support_submit(ex, task_stray, &s, sizeof s);
	if (place == OWN_CELL)
		ck_assert_uint_eq(future->slot, innocents[INNOCENTS - 1]->slot + 1);
	o = support_outcome(future);
	ck_assert_msg(o->kind == PP_CRASHED && o->signal == SIGSEGV, "place %d: %s %d", place, pp_kind_name(o->kind), o->code);
	ck_assert(place == OWN_UNIT_AFTER || o->fault_address == (uintptr_t)s.at);
	support_until(is_gone, &(pid_t){ o->pid }, "its worker is gone");
	for (int i = 0; i < INNOCENTS; i++)
		assert_filled(innocents[i], of[i]);
	ck_assert_int_eq(((char *)pp_block_data(block))[0], 'b');
	pp_block_free(block);
	pp_future_free(future);
	assert_filled(submit_innocent(ex, 1000, false), 1000);
	pp_executor_free(ex);
}

START_TEST(hardened_stray_write)
{
	stray((enum place)_i);
}
END_TEST

/* ---- maps, hooks and rounds */

#define ITEMS 300

struct item { struct innocent innocent; char *room; };
struct items { size_t n; struct item now; };

static int next_item(const void **data, size_t *size, void *context)
{
	struct items *items = context;

	if (items->n == ITEMS)
		return 0;
	items->now.innocent = (struct innocent){ sizes[items->n % SIZES] / (items->n % 5 ? 16 : 1), items->n / SIZES % 2 };
	items->n++;
	*data = &items->now;
	*size = sizeof items->now;
	return 1;
}

/* Some write to where the room of their chunk is, and the results of those before them. */
static int task_item(pp_task *task, const void *data, size_t size)
{
	static size_t count;
	const struct item *item = data;

	(void)size;
	if (item->innocent.size == 0 && ++count % 5 == 0)
		memset(item->room, 0x55, 4096);
	return task_innocent(task, &item->innocent, sizeof item->innocent);
}

START_TEST(hardened_map)
{
	struct items items = { .n = 0 };
	pp_map_options options = PP_MAP_OPTIONS_INIT;
	pp_executor *ex = hardened(1, PP_CHECKSUM);
	const pp_outcome *o;
	pp_map *map;
	uint64_t i, crashes = 0;

	items.now.room = ex->segment.shared.base + ex->segment.shared.header->small_units;
	options.chunk = _i ? 20 : 0;
	ck_assert_int_eq(pp_map_create(ex, &options, task_item, next_item, &items, &map), 0);
	for (uint64_t n = 0; n < ITEMS; n++) {
		size_t size = sizes[n % SIZES] / (n % 5 ? 16 : 1);
		ck_assert_int_eq(pp_map_next(map, &i, &o), 1);
		ck_assert_uint_eq(i, n);
		crashes += o->kind == PP_CRASHED;
		ck_assert_msg(o->kind == PP_RETURNED || (o->kind == PP_CRASHED && o->signal == SIGSEGV && size == 0),
		              "item %d: %s %d", (int)n, pp_kind_name(o->kind), o->code);
		ck_assert(o->kind == PP_CRASHED || o->size == size);
		for (size_t b = 0; b < o->size; b++)
			if (((const unsigned char *)o->data)[b] != byte_at(size, b))
				ck_abort_msg("item %d: byte %zu of %zu", (int)n, b, size);
	}
	ck_assert_uint_gt(crashes, 0);
	pp_map_free(map);
	pp_executor_free(ex);
}
END_TEST

static int init_stray(pp_task *task, const void *data, size_t size)
{
	(void)task;
	(void)size;
	if (*(const char *)data == 's')
		*(volatile char *)((uintptr_t)data - (uintptr_t)data % 4096) = 1;
	return *(const char *)data == 'r' ? pp_raise(task, 9, "the initializer's words") : 0;
}

START_TEST(hardened_initializer)
{
	pp_options options = support_options(1);
	pp_executor *ex;

	options.flags = PP_HARDENED | PP_START_ALL;
	options.initializer = init_stray;
	options.finalizer = init_stray;
	options.initializer_data = "n";
	options.initializer_size = 2;
	ex = support_create(&options);
	assert_filled(submit_innocent(ex, 20, false), 20);
	pp_executor_free(ex);
	options.initializer_data = "r";
	ck_assert_int_lt(pp_executor_create(&ex, &options), 0);
}
END_TEST

static int round_stray(pp_task *task, const void *data, size_t size)
{
	_Atomic uint64_t *head;

	(void)task;
	memcpy(&head, data, size);
	atomic_store(head, 12345);
	return 0;
}

/* It takes the workers with it, and nothing else. */
START_TEST(hardened_round)
{
	pp_executor *ex = hardened(2, 0);

	_Atomic uint64_t *head = &ex->segment.shared.control->heads[PP__NORMAL];

	assert_filled(submit_innocent(ex, 20, false), 20);
	pp_executor_run_on_workers(ex, round_stray, PP_BYTES(head), SUPPORT_GUARD_MS);
	for (int i = 0; i < 10; i++)
		assert_filled(submit_innocent(ex, 20, false), 20);
	pp_executor_free(ex);
}
END_TEST

START_TEST(hardened_inline_is_refused)
{
	pp_options options = PP_OPTIONS_INIT;
	pp_executor *ex;

	options.flags = PP_HARDENED;
	options.max_workers = PP_INLINE;
	ck_assert_int_eq(pp_executor_create(&ex, &options), -EINVAL);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("hardened");
	TCase *strays = support_tcase(suite, "strays");

	tcase_add_loop_test(strays, hardened_stray_write, 0, PLACES);
	tcase_add_loop_test(strays, hardened_map, 0, 2);
	tcase_add_test(strays, hardened_initializer);
	tcase_add_test(strays, hardened_round);
	tcase_add_test(strays, hardened_inline_is_refused);
	return suite;
}

SUPPORT_MAIN(make_suite)
