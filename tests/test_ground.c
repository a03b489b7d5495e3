/* SPDX-License-Identifier: MIT */
/*
 * White box: the ground that both sides stand on, in one process. Backings of the segment, words of slots, the ring,
 * units for results against a plain model, and time stamps.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "clock.h"
#include "pool.h"
#include "ring.h"
#include "segment.h"
#include "slot.h"
#include "spin.h"
#include "support.h"
#include "sysdep.h"
#include "units.h"

#define STAMP_ERROR_NS 50000

static struct pp__segment segment;
static struct pp__ring_writer writer;

/* Room for the first slots, as slots.c gives it. */
static void make_segment(unsigned backings)
{
	const struct pp__header *h;

	ck_assert_int_eq(pp__segment_create(&segment, backings, 4), 0);
	h = segment.shared.header;
	ck_assert_int_eq(pp__memory_commit(&segment, h->cells, 8192 * sizeof(struct pp__cell)), 0);
	ck_assert_int_eq(pp__ring_init(&writer, &segment, PP__NORMAL), 0);
	atomic_store(&segment.shared.header->levels, 1u << PP__NORMAL);
	atomic_store(&segment.shared.header->slots, 8192);
}

static void check_backing(enum pp__backing backing)
{
	struct stat st;

	make_segment(backing);
	ck_assert_int_eq(segment.backing, backing);
	ck_assert_int_eq(fstat(segment.fd, &st), 0);
	ck_assert_uint_eq(st.st_mode & 0777, 0600);
	if (backing != PP__BACKING_MEMFD)
		ck_assert_uint_eq(st.st_nlink, 0);
	ck_assert_uint_eq(segment.shared.header->magic, PP__MAGIC);
	pp__segment_destroy(&segment);
}

START_TEST(backing_tmpfile)
{
	check_backing(PP__BACKING_TMPFILE);
}
END_TEST

START_TEST(backing_memfd)
{
	check_backing(PP__BACKING_MEMFD);
}
END_TEST

START_TEST(backing_named)
{
	check_backing(PP__BACKING_NAMED);
}
END_TEST

START_TEST(word_of_another_slot_is_invalid)
{
	const struct pp__header *h;
	unsigned valid = 0;

	make_segment(PP__BACKING_MEMFD);
	h = segment.shared.header;
	ck_assert(pp__word_is_like(pp__word_make(h, 7, 3, PP__READY), pp__word_make(h, 7, 3, PP__FREE)));
	ck_assert(pp__word_is_like(pp__word_make(h, 7, 3, PP__READY) | PP__WANTS, pp__word_make(h, 7, 3, PP__FREE)));
	ck_assert(!pp__word_is_like(pp__word_make(h, 7, 3, PP__READY), pp__word_make(h, 7, 4, PP__FREE)));
	for (uint32_t i = 0; i < 4096; i++)
		valid += pp__word_is_like(pp__word_make(h, 7, 3, PP__READY), pp__word_make(h, i, 3, PP__FREE));
	ck_assert_uint_le(valid, 8);     /* 12 bits of check: one in 4096 by chance, and slot 7 itself */
	pp__segment_destroy(&segment);
}
END_TEST

static struct pp__cell *ready(uint32_t slot)
{
	struct pp__cell *cell = segment.shared.cells + slot;

	pp__slot_ready(cell, pp__word_make(segment.shared.header, slot, 1, PP__READY));
	return cell;
}

START_TEST(edges_exist_once)
{
	struct pp__cell *cell;
	uint64_t me = pp__owner(2, 9), other = pp__owner(3, 9), seen, word;

	make_segment(PP__BACKING_MEMFD);
	cell = ready(5);
	seen = pp__slot_look(cell);
	ck_assert_uint_eq(pp__slot_claim(cell, pp__word_make(segment.shared.header, 5, 2, PP__READY), me), 0);
	ck_assert_uint_ne(pp__slot_want(cell, 1, PP__WANT_PUSH), 0);
	word = pp__slot_claim(cell, seen, me);
	ck_assert_uint_eq(word & PP__WANTS, PP__WANT_PUSH);
	ck_assert_uint_eq(pp__slot_claim(cell, seen, other), 0);
	ck_assert_uint_eq(pp__slot_claim(cell, word, other), 0);
	ck_assert_uint_eq(pp__slot_requeue(cell, other), 0);
	ck_assert_uint_ne(pp__slot_want(cell, 1, PP__WANT_WAKE), 0);
	word = pp__slot_run(cell, word);         /* a want in between is no reason to fail */
	ck_assert_uint_eq(word & PP__WANTS, PP__WANT_PUSH | PP__WANT_WAKE);
	ck_assert_uint_eq(pp__slot_cancel(cell, 1), 0);
	ck_assert_uint_eq(pp__slot_stop_kill(cell, 2), 0);
	ck_assert_uint_ne(pp__slot_stop_kill(cell, 1), 0);
	ck_assert_uint_eq(pp__slot_publish(cell, word), 0);
	ck_assert_uint_eq(pp__slot_stopped(cell, other), 0);
	ck_assert_uint_ne(pp__slot_stopped(cell, me), 0);
	ck_assert_uint_eq(pp__slot_want(cell, 1, PP__WANT_PUSH), 0);
	ck_assert_uint_eq(pp__slot_break(cell, 1), 0);
	pp__segment_destroy(&segment);
}
END_TEST

/* Takes what the ring offers, as a worker does. */
static uint32_t take(void)
{
	struct pp__ring_at at;
	uint32_t slot;

	while ((slot = pp__ring_peek(&segment.shared, writer.level, &at)) != PP__NO_SLOT) {
		struct pp__cell *cell = segment.shared.cells + slot;
		bool won = pp__slot_claim(cell, pp__slot_look(cell), pp__owner(0, 0)) != 0;
		pp__ring_pass(&segment.shared, writer.level, at.head);
		if (won)
			return slot;
	}
	return PP__NO_SLOT;
}

static void cancel(uint32_t slot)
{
	ck_assert_uint_ne(pp__slot_cancel(segment.shared.cells + slot, 1), 0);
}

START_TEST(ring_keeps_order_over_growth)
{
	make_segment(PP__BACKING_MEMFD);
	for (uint32_t i = 0; i < 8000; i++) {
		ready(i);
		ck_assert_int_eq(pp__ring_push(&writer, &segment, i), 0);
	}
	for (uint32_t i = 0; i < 8000; i++)
		ck_assert_uint_eq(take(), i);
	ck_assert_uint_eq(take(), PP__NO_SLOT);
	ck_assert(!pp__ring_has_ready(&segment.shared));
	pp__segment_destroy(&segment);
}
END_TEST

/* One live entry at the front, and stale ones without end behind it: the ring does not grow for them. */
START_TEST(ring_drops_stale_entries)
{
	make_segment(PP__BACKING_MEMFD);
	ready(0);
	ck_assert_int_eq(pp__ring_push(&writer, &segment, 0), 0);
	for (int i = 0; i < 100000; i++) {
		ready(1);
		ck_assert_int_eq(pp__ring_push(&writer, &segment, 1), 0);
		cancel(1);
	}
	ck_assert_uint_eq(writer.capacity, 4096);
	ck_assert_uint_eq(take(), 0);
	ck_assert_uint_eq(take(), PP__NO_SLOT);
	pp__segment_destroy(&segment);
}
END_TEST

/* A worker that holds an old head, from before the ring was written anew, moves nothing. */
START_TEST(ring_old_head_moves_nothing)
{
	struct pp__ring_at old;

	make_segment(PP__BACKING_MEMFD);
	ready(0);
	ck_assert_int_eq(pp__ring_push(&writer, &segment, 0), 0);
	ck_assert_uint_eq(pp__ring_peek(&segment.shared, writer.level, &old), 0);
	for (uint32_t i = 1; i < 5000; i++) {
		ready(i);
		ck_assert_int_eq(pp__ring_push(&writer, &segment, i), 0);
	}
	pp__ring_pass(&segment.shared, writer.level, old.head);
	for (uint32_t i = 0; i < 5000; i++)
		ck_assert_uint_eq(take(), i);
	pp__segment_destroy(&segment);
}
END_TEST

/* A forged head loses nothing that is pushed afterwards, and the entries before it are found again. */
START_TEST(ring_heals_forged_head)
{
	uint32_t found = 0;

	make_segment(PP__BACKING_MEMFD);
	for (uint32_t i = 0; i < 100; i++) {
		ready(i);
		ck_assert_int_eq(pp__ring_push(&writer, &segment, i), 0);
	}
	atomic_store(&segment.shared.control->heads[writer.level], UINT64_C(0x123456789abcdef0));
	ck_assert(!pp__ring_is_sane(&writer, &segment.shared));
	for (uint32_t i = 100; i < 8000; i++) {
		ready(i);
		ck_assert_int_eq(pp__ring_push(&writer, &segment, i), 0);
	}
	/* Before the array in use was begun: no entry was ever there. */
	atomic_store(&segment.shared.control->heads[writer.level], UINT64_C(10) << 1 | writer.which);
	ck_assert(!pp__ring_is_sane(&writer, &segment.shared));
	pp__ring_repair(&writer, &segment);
	while (take() != PP__NO_SLOT)
		found++;
	ck_assert_uint_eq(found, 8000);
	pp__segment_destroy(&segment);
}
END_TEST

#define PLACES 64

struct place { int64_t offset; uint64_t size, claim; };

static bool overlaps(const struct place *a, const struct place *b)
{
	return a->offset && b->offset && a->offset < b->offset + (int64_t)b->size
	       && b->offset < a->offset + (int64_t)a->size;
}

static uint64_t random_size(void)
{
	static const uint64_t edges[] = { 257, 4095, 4096, 4097, 65535, 65536, 65537, 1 << 20, (1 << 20) + 1, 3 << 20 };

	return rand() % 2 ? edges[rand() % 10] : 257 + (uint64_t)(rand() % 200000);
}

/* Random claims and releases: no two overlap, each is where the books say, and in the end all is free. */
START_TEST(units_against_model)
{
	struct pp__unit_cursor cursor = { .last = { 0 } };
	struct place places[PLACES] = { { 0 } };

	make_segment(PP__BACKING_MEMFD);
	srand(4711);
	for (int round = 0; round < 4000; round++) {
		uint32_t i = (uint32_t)(rand() % PLACES);
		struct place *p = &places[i];
		if (p->offset) {
			ck_assert(pp__units_are_owned(&segment.shared, i, 1, p->claim, p->size));
			ck_assert(!pp__units_are_owned(&segment.shared, i, 2, p->claim, p->size));
			pp__units_release(&segment.shared, i, 1, p->claim);
			ck_assert(!pp__units_are_owned(&segment.shared, i, 1, p->claim, p->size));
			p->offset = 0;
			continue;
		}
		p->size = random_size();
		p->offset = pp__units_claim(&segment.shared, &cursor, i, 1, p->size);
		ck_assert_msg(p->offset > 0, "seed 4711, round %d: %lld", round, (long long)p->offset);
		p->claim = atomic_load(&segment.shared.cells[i].claim);
		segment.shared.base[p->offset] = 1;
		segment.shared.base[p->offset + (int64_t)p->size - 1] = 1;
		for (uint32_t k = 0; k < PLACES; k++)
			ck_assert_msg(k == i || !overlaps(p, &places[k]), "seed 4711, round %d", round);
	}
	pp__segment_destroy(&segment);
}
END_TEST

START_TEST(units_forged_claims)
{
	make_segment(PP__BACKING_MEMFD);
	ck_assert(!pp__units_are_owned(&segment.shared, 1, 1, 0, 300));
	ck_assert(!pp__units_are_owned(&segment.shared, 1, 1, UINT64_MAX, 300));
	ck_assert(!pp__units_are_owned(&segment.shared, 1, 1, (UINT64_C(1) << 32) | UINT32_MAX, 300));
	/* The hint at how many were ever used is forged too. */
	atomic_store(&segment.shared.control->units_used[0], UINT32_MAX);
	atomic_store(&segment.shared.control->units_used[1], UINT32_MAX);
	ck_assert(!pp__units_are_owned(&segment.shared, 1, 1, UINT64_MAX, 300));
	ck_assert(!pp__units_are_owned(&segment.shared, 1, 1, (UINT64_C(1) << 32) | UINT32_MAX, 300));
	pp__units_release(&segment.shared, 1, 1, UINT64_MAX);
	pp__segment_destroy(&segment);
}
END_TEST

/* Whatever it is read from: never back, and never away from the clock by more than looks that were disturbed leave. */
START_TEST(stamps_keep_to_the_clock)
{
	struct pp__clock clock = { .ns = 0 };
	int64_t last = 0, end, before, stamp, after;

	pp__clock_init();
	end = pp__now_ns() + 60000000;
	do {
		before = pp__now_ns();
		stamp = pp__clock_read(&clock);
		after = pp__now_ns();
		ck_assert_int_ge(stamp, last);
		ck_assert_int_ge(stamp, before - STAMP_ERROR_NS);
		ck_assert_int_le(stamp, after + STAMP_ERROR_NS);
		last = stamp;
	} while (after < end);
}
END_TEST

#define MANY (2 * PP__SLAB)

/* They are given back in a wild order, and taken in the order in which they stand in memory. */
START_TEST(slots_are_taken_in_order)
{
	static pp_future *futures[MANY];
	pp_executor *ex = support_executor(1);
	uint32_t in_order = 0;

	for (uint32_t i = 0; i < MANY; i++)
		futures[i] = support_submit(ex, task_nothing, NULL, 0);
	ck_assert_int_eq(pp_wait(futures, MANY, PP_ALL_COMPLETED, SUPPORT_GUARD_MS), MANY);
	for (uint32_t i = 0; i < MANY; i++)
		pp_future_free(futures[i * 4001 % MANY]);
	for (uint32_t i = 0; i < MANY; i++)
		futures[i] = support_submit(ex, task_nothing, NULL, 0);
	for (uint32_t i = 1; i < MANY; i++)
		in_order += futures[i]->slot == futures[i - 1]->slot + 1;
	ck_assert_uint_ge(in_order, MANY - MANY / 10);
	for (uint32_t i = 0; i < MANY; i++)
		pp_future_free(futures[i]);
	pp_executor_free(ex);
}
END_TEST

/* How often it is tried in so many waits, each of which then has that result. */
static int times_given_way(struct pp__spin *spin, int waits, int64_t ns, bool has_come)
{
	int n = 0;

	while (waits--)
		if (pp__spin_may_give_way(spin)) {
			pp__spin_gave_way(spin, ns, has_come);
			n++;
		}
	return n;
}

/* Each time where it pays; where it does not, or takes too long, ever less; and again, once it pays. */
START_TEST(giving_way_pays_or_ends)
{
	struct pp__spin spin = { .skip = 0 };

	ck_assert_int_eq(times_given_way(&spin, 1000, 5000, true), 1000);
	ck_assert_int_le(times_given_way(&spin, 100000, 5000, false), 40);
	ck_assert_int_le(times_given_way(&spin, 100000, 3000000, true), 30);
	ck_assert_int_ge(times_given_way(&spin, 100000, 5000, true), 90000);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("ground");
	TCase *shared = support_tcase(suite, "segment"), *slot = support_tcase(suite, "slot");
	TCase *ring = support_tcase(suite, "ring"), *room = support_tcase(suite, "room");
	TCase *time = support_tcase(suite, "time");

	tcase_add_test(shared, backing_tmpfile);
	tcase_add_test(shared, backing_memfd);
	tcase_add_test(shared, backing_named);
	tcase_add_test(slot, word_of_another_slot_is_invalid);
	tcase_add_test(slot, edges_exist_once);
	tcase_add_test(slot, slots_are_taken_in_order);
	tcase_add_test(ring, ring_keeps_order_over_growth);
	tcase_add_test(ring, ring_drops_stale_entries);
	tcase_add_test(ring, ring_old_head_moves_nothing);
	tcase_add_test(ring, ring_heals_forged_head);
	tcase_add_test(room, units_against_model);
	tcase_add_test(room, units_forged_claims);
	tcase_add_test(time, stamps_keep_to_the_clock);
	tcase_add_test(time, giving_way_pays_or_ends);
	return suite;
}

SUPPORT_MAIN(make_suite)
