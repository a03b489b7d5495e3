/* SPDX-License-Identifier: MIT */
/*
 * White box: the record of a death lies where workers can write. Whatever it says, the parent reads no byte that is not
 * that slot's, and comes to an end. And what there is without an unwinder.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "backtrace.h"
#include "chunk.h"
#include "map.h"
#include "plant.h"
#include "pool.h"
#include "support.h"
#include "units.h"

struct corpse {
	pp_executor *ex;
	pp_future *future;
	struct pp__death *death;
	struct pp__cell *cell;
};

static bool is_buried(void *corpse_pointer)
{
	const struct corpse *corpse = corpse_pointer;
	uint64_t word = pp__slot_look(corpse->cell);

	return (atomic_load(&corpse->ex->segment.shared.workers[pp__word_worker(word)].incarnation) & PP__INCARNATION_MASK)
	       != pp__word_incarnation(word);
}

static bool is_done(void *future)
{
	return pp_future_done(future);
}

/* One that has died and was buried, and of which nobody has read the record yet. */
static void make_corpse(struct corpse *corpse, enum plant how)
{
	int which = how;

	corpse->ex = support_executor(1);
	corpse->future = support_submit(corpse->ex, task_plant, &which, sizeof which);
	support_until(is_done, corpse->future, "the task has died");
	corpse->cell = pp__cell_of(corpse->future);
	corpse->death = (void *)(corpse->ex->segment.shared.extensions + corpse->future->slot * PP__EXTENSION);
	support_until(is_buried, corpse, "the worker is buried");
}

static void free_corpse(struct corpse *corpse)
{
	pp_future_free(corpse->future);
	pp_executor_free(corpse->ex);
}

static const pp_postmortem *postmortem_of(const struct corpse *corpse)
{
	const pp_postmortem *p = NULL;

	ck_assert_int_eq(pp_future_postmortem(corpse->future, SUPPORT_GUARD_MS, &p), 0);
	return p;
}

START_TEST(record_of_another_attempt)
{
	const pp_postmortem *p;
	struct corpse corpse;

	make_corpse(&corpse, PLANT_SEGV);
	corpse.death->tag ^= UINT64_C(1) << 20;
	ck_assert_int_eq(pp_future_postmortem(corpse.future, PP_FOREVER, &p), -ENODATA);
	ck_assert_int_eq(support_outcome(corpse.future)->kind, PP_CRASHED);
	ck_assert_ptr_null(support_outcome(corpse.future)->registers);
	free_corpse(&corpse);
}
END_TEST

START_TEST(crash_of_another_attempt)
{
	struct corpse corpse;

	make_corpse(&corpse, PLANT_SEGV);
	atomic_store(&corpse.death->crash.tag, corpse.death->tag + 1);
	ck_assert_ptr_null(support_outcome(corpse.future)->registers);
	ck_assert_uint_eq(postmortem_of(&corpse)->frame_count, 0);
	free_corpse(&corpse);
}
END_TEST

/* An owner that is none, and one that lives: nobody will bury it, and who waits for that waits in vain. */
START_TEST(owner_that_is_not_dying)
{
	struct corpse corpse;
	const pp_postmortem *p;
	uint32_t entry, entries;
	uint64_t word;

	make_corpse(&corpse, PLANT_SEGV);
	ck_assert_int_gt(support_run_for_pid(corpse.ex), 0);
	entries = corpse.ex->segment.shared.header->entries;
	for (entry = 0; entry < entries && !atomic_load(&corpse.ex->segment.shared.workers[entry].pid); entry++)
		;
	ck_assert_uint_lt(entry, entries);
	entry = _i ? entry : entries;
	word = atomic_load(&corpse.cell->word) & ~PP__OWNER_BITS;
	atomic_store(&corpse.cell->word,
	             word | pp__owner(entry, atomic_load(&corpse.ex->segment.shared.workers[entry].incarnation)));
	ck_assert_int_eq(pp_future_postmortem(corpse.future, SUPPORT_GUARD_MS, &p), -ENODATA);
	free_corpse(&corpse);
}
END_TEST

static int next_number(const void **data, size_t *size, void *number_)
{
	int *number = number_;

	++*number;
	*data = number;
	*size = sizeof *number;
	return *number <= 20000;
}

/* The first item of a chunk is said to have a result of this size, and to be the only one that was started. */
static void forge_size(pp_executor *ex, const pp_future *future, uint64_t size)
{
	const struct pp__shared *shared = &ex->segment.shared;
	struct pp__chunk_entry *entry = (void *)(shared->base + pp__units_offset(shared->header,
	                                         atomic_load(&shared->cells[future->slot].claim)));

	entry->size = size;
	atomic_store(&entry->check, pp__chunk_check(shared->header, future->slot, future->generation, 0, entry));
	pp__chunk_reset(shared, future->slot, future->generation);
	pp__chunk_start(shared, future->slot, future->generation, 0);
}

/* How many items go into a chunk follows from the size of results: one that cannot be must not count. With this one the
 * divisor would be 0. */
START_TEST(item_of_any_size)
{
	pp_options o = support_options(1);
	pp_executor *ex;
	const pp_outcome *outcome;
	uint64_t index;
	int number = 0, forged = 0, n = 0;
	pp_map *map;

	o.max_workers = PP_INLINE;
	ex = support_create(&o);
	ck_assert_int_eq(pp_map_create(ex, NULL, task_echo, next_number, &number, &map), 0);
	while (pp_map_next(map, &index, &outcome) == 1) {
		n++;
		forged += outcome->kind == PP_RAISED && outcome->code == -EBADMSG;
		for (const struct pp__batch *b = forged ? NULL : map->head; b; b = b->next)
			if (b->future->chunk && !b->opened)
				forge_size(ex, b->future, (UINT64_C(1) << 63) - 33);
	}
	ck_assert_int_eq(n, 20000);
	ck_assert_int_gt(forged, 0);
	pp_map_free(map);
	pp_executor_free(ex);
}
END_TEST

/* Sizes beyond the bounds, beyond the run, and runs that are not this slot's: then there is no stack. */
START_TEST(stack_that_is_not_there)
{
	struct corpse corpse;
	const pp_postmortem *p;

	make_corpse(&corpse, PLANT_SEGV);
	switch (_i) {
	case 0: corpse.death->stack_size = UINT32_MAX; break;
	case 1: corpse.death->stack_size = PP__STACK_MAX; break;
	case 2: corpse.death->output_size = UINT32_MAX; break;
	case 3: corpse.death->stack_size = 0; break;
	case 4: atomic_store(&corpse.cell->claim, UINT64_MAX); break;
	case 5: atomic_store(&corpse.cell->claim, 0); break;
	default: atomic_store(&corpse.cell->claim, atomic_load(&corpse.cell->claim) + 1); break;
	}
	p = postmortem_of(&corpse);
	ck_assert_uint_le(p->frame_count, 2);
	ck_assert_str_ne(p->frames_note, "");
	free_corpse(&corpse);
}
END_TEST

/* Any registers, any base, any bytes in the stack. */
START_TEST(random_stacks_and_registers)
{
	int rounds = support_many(300);
	unsigned seed = 1;
	struct corpse corpse;
	unsigned char *bytes;
	struct pp__stack_copy stack;
	pp_frame frames[PP__FRAMES_MAX];
	uint64_t registers[PP__REGISTERS ? PP__REGISTERS : 1];
	const char *note;
	size_t n;

	make_corpse(&corpse, PLANT_SEGV);
	bytes = (unsigned char *)corpse.ex->segment.shared.base
	        + pp__units_offset(corpse.ex->segment.shared.header, atomic_load(&corpse.cell->claim));
	for (int i = 0; i < rounds; i++) {
		memcpy(registers, corpse.death->crash.registers, sizeof registers);
		stack = (struct pp__stack_copy){ bytes, corpse.death->stack_base, corpse.death->stack_size };
		for (int j = 0; j < 1 + i % 7; j++) {
			uint32_t at = (uint32_t)rand_r(&seed) % stack.size;
			bytes[at] = (unsigned char)rand_r(&seed);
			if (i % 3 == 0)
				registers[rand_r(&seed) % PP__REGISTERS] ^= (uint64_t)rand_r(&seed) << rand_r(&seed) % 33;
		}
		if (i % 11 == 0)
			stack.base = UINT64_MAX - (uint64_t)(rand_r(&seed) % 5000);
		n = pp__backtrace(registers, &stack, frames, &note);
		ck_assert_uint_le(n, PP__FRAMES_MAX);
		pp__frames_free(frames, n);
	}
	free_corpse(&corpse);
}
END_TEST

/* Without libdw: one frame, by the dynamic linker. */
START_TEST(without_an_unwinder)
{
	struct corpse corpse;
	const pp_postmortem *p;

	pp__backtrace_forbid(true);
	make_corpse(&corpse, PLANT_SEGV);
	p = postmortem_of(&corpse);
	ck_assert_uint_eq(p->frame_count, 1);
	ck_assert_uint_eq(p->frames[0].address, support_outcome(corpse.future)->instruction);
	ck_assert_ptr_nonnull(p->frames[0].module);
	ck_assert_uint_gt(p->frames[0].offset, 0);
	ck_assert_str_ne(p->frames_note, "");
	free_corpse(&corpse);
	pp__backtrace_forbid(false);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("forged");
	TCase *tcase = support_tcase(suite, "forged");

	tcase_add_test(tcase, record_of_another_attempt);
	tcase_add_loop_test(tcase, owner_that_is_not_dying, 0, 2);
	tcase_add_test(tcase, item_of_any_size);
#if PP__REGISTERS
	tcase_add_test(tcase, crash_of_another_attempt);
	tcase_add_loop_test(tcase, stack_that_is_not_there, 0, 7);
	tcase_add_test(tcase, random_stacks_and_registers);
	tcase_add_test(tcase, without_an_unwinder);
#endif
	return suite;
}

SUPPORT_MAIN(make_suite)
