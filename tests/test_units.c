/* SPDX-License-Identifier: MIT */
/*
 * White box: room for results, as workers claim it and the parent gives it back: what the kernel gives for it beside what
 * is in use. A seed that fails is printed; PROCPOOL_TEST_SEED sets it, and PROCPOOL_TEST_ALL makes the runs as long as
 * the contract asks for.
 */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include "segment.h"
#include "slot.h"
#include "support.h"
#include "units.h"

#define KIB     ((uint64_t)1 << 10)
#define MIB     ((uint64_t)1 << 20)
#define PLACES  1000u
#define WORKERS 4

static struct pp__segment segment;
static struct pp__unit_books books;
static struct pp__unit_cursor cursors[WORKERS];
static uint64_t sizes[PLACES], live;     /* 0: nothing there */
static unsigned seed = 20240611;

/* What the kernel says that the segment has. */
static uint64_t resident(void)
{
	struct stat st;

	ck_assert_int_eq(fstat(segment.fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
}

static void set_up(void)
{
	const char *text = getenv("PROCPOOL_TEST_SEED");

	if (text)
		seed = (unsigned)strtoul(text, NULL, 10);
	ck_assert_int_eq(pp__segment_create(&segment, PP__BACKING_MEMFD, 4), 0);
	ck_assert_int_eq(pp__memory_commit(&segment, segment.shared.header->cells, PLACES * sizeof(struct pp__cell)), 0);
}

static void tear_down(void)
{
	pp__segment_destroy(&segment);
}

static uint64_t next_random(void)
{
	static uint64_t state;

	if (!state)
		state = seed * UINT64_C(0x9e3779b97f4a7c15) + 1;
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static int64_t take(uint32_t i, uint64_t size)
{
	int64_t offset = pp__units_claim(&segment.shared, &cursors[next_random() % WORKERS], i, 1, size);

	if (offset <= 0)
		ck_abort_msg("seed %u: no room for %llu: %lld", seed, (unsigned long long)size, (long long)offset);
	segment.shared.base[offset] = segment.shared.base[(uint64_t)offset + size - 1] = (char)i;
	sizes[i] = size;
	live += size;
	return offset;
}

static void give(uint32_t i)
{
	uint64_t claim = atomic_load(&segment.shared.cells[i].claim);

	pp__units_release(&segment.shared, i, 1, claim);
	pp__units_freed(&segment.shared, &books, claim, segment.warm_max);
	live -= sizes[i];
	sizes[i] = 0;
}

static double overhead(uint64_t empty) { return (double)(resident() - empty) / (double)live; }

/* Of results above 256 bytes, the smallest that take units. */
static uint64_t size_up_to(uint64_t most) { return 257 + next_random() % (most - 256); }

/* With the same chance for each doubling up to 1 MiB, so that a few large ones are most of it. */
static uint64_t size_uneven(uint64_t most)
{
	uint64_t from = UINT64_C(257) << next_random() % 12, size = from + next_random() % from;

	return size < most ? size : most;
}

static const struct mix {
	const char *name;
	uint64_t (*size)(uint64_t most);
	uint64_t most;
	uint32_t places;                         /* half of them are live on average */
	long operations;
} mixes[] = {
	{ "up to 200 KiB", size_up_to, 200 * KIB, PLACES, 100000 },
	{ "up to 1 MiB", size_up_to, MIB, PLACES, 10000 },
	{ "uneven up to 1 MiB", size_uneven, MIB, PLACES, 20000 },
	{ "up to 1 MiB, few of them", size_up_to, MIB, PLACES / 10, 10000 },
	{ "up to 32 KiB", size_up_to, 32 * KIB, PLACES, 40000 },
};

static void step(const struct mix *mix)
{
	uint32_t place = (uint32_t)(next_random() % mix->places);

	while (sizes[place] && next_random() % 2)
		place = (uint32_t)(next_random() % mix->places);
	if (sizes[place])
		give(place);
	else
		take(place, mix->size(mix->most));
}

/* A mix that goes on for long, looked at from a tenth of it on to its end: ten million with PROCPOOL_TEST_ALL. */
START_TEST(units_fragmentation)
{
	const struct mix *mix = &mixes[_i];
	long operations = getenv("PROCPOOL_TEST_ALL") ? 10000000 : mix->operations;
	uint64_t empty = resident();
	double worst = 0;

	for (long i = 1; i <= operations; i++) {
		step(mix);
		if (i % (operations / 1000) == 0 && i >= operations / 10 && overhead(empty) > worst)
			worst = overhead(empty);
	}
	printf("# %s, %ld operations: at most %.3f times the live bytes; at the end %llu KiB for %llu KiB, seed %u\n",
	       mix->name, operations, worst, (unsigned long long)(resident() - empty) / 1024,
	       (unsigned long long)live / 1024, seed);
	ck_assert_msg(worst < 1.3, "seed %u: %.3f", seed, worst);
}
END_TEST

static const struct { uint32_t count; uint64_t size; } come_and_go[] = {
	{ 16, 20 * KIB }, { 16, 400 * KIB }, { 16, MIB }, { 1000, 20 * KIB },
};

/* What comes and goes as a whole is no steady mix: it finds most of its memory warm each time, be it much or little. */
START_TEST(units_come_and_go)
{
	uint64_t empty = resident(), size = come_and_go[_i].size;
	uint32_t count = come_and_go[_i].count;

	for (int round = 0; round < 50; round++) {
		for (uint32_t i = 0; i < count; i++)
			take(i, size);
		for (uint32_t i = 0; i < count; i++)
			give(i);
		ck_assert_msg(resident() >= empty + count * size / 2, "round %d: %llu KiB", round,
		              (unsigned long long)(resident() - empty) / 1024);
	}
}
END_TEST

/* What was just given back is taken before what has no memory yet, and before what other sizes left. */
START_TEST(units_warm_first)
{
	int64_t was;
	uint64_t used;

	take(0, 100 * KIB);
	was = take(1, 8 * MIB);
	take(2, 100 * KIB);
	give(1);
	used = resident();
	for (int i = 0; i < 100; i++) {
		ck_assert_int_eq(take(1, 8 * MIB), was);
		give(1);
	}
	ck_assert_uint_eq(resident(), used);
}
END_TEST

static _Atomic uint32_t *front(void) { return &segment.shared.control->units_front[0]; }

/* Small ones behind so many units in use that no search would come to them from the first one on. */
static void take_many(int64_t *was)
{
	for (uint32_t i = 0; i < PLACES; i++)
		was[i] = take(i, i < PLACES / 2 ? 60 * KIB : 4 * KIB);
}

/* They are found again as soon as they are free, whatever a worker has written where the search starts. */
START_TEST(units_freed_is_found)
{
	int64_t was[PLACES];

	take_many(was);
	for (uint32_t i = PLACES - 1; i > PLACES / 2; i -= 7) {
		if (i % 3 == 0)
			atomic_store(front(), UINT32_MAX);
		give(i);
		ck_assert_int_eq(take(i, 4 * KIB), was[i]);
	}
}
END_TEST

/* Somebody has just found it in use, and puts the front behind it after it was freed: it does not stay there for ever. */
START_TEST(units_front_comes_back)
{
	take(1, 4 * KIB);
	give(1);
	atomic_store(front(), segment.shared.control->units_used[0]);
	for (int i = 0; i < 1000; i++) {
		take(0, 400 * KIB);
		give(0);
	}
	ck_assert_uint_eq(atomic_load(front()), 0);
}
END_TEST

/* Large or small: what many took goes back, but for what a program can be expected to take again soon. */
START_TEST(units_go_back)
{
	uint64_t empty = resident(), size = _i ? 300 : 400 * KIB;

	for (uint32_t i = 0; i < PLACES; i++)
		take(i, size);
	for (uint32_t i = 0; i < PLACES; i++)
		give(i);
	ck_assert_uint_le(resident(), empty + segment.warm_max + segment.warm_max / 4);
	for (int i = 0; i < 2000; i++) {         /* less is in use from here on */
		take(0, 200 * KIB);
		give(0);
	}
	ck_assert_uint_le(resident(), empty + 24 * MIB);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("units");
	TCase *tcase = support_tcase(suite, "room");

	tcase_set_timeout(tcase, 3600);
	tcase_add_checked_fixture(tcase, set_up, tear_down);
	tcase_add_loop_test(tcase, units_fragmentation, 0, sizeof mixes / sizeof *mixes);
	tcase_add_loop_test(tcase, units_come_and_go, 0, sizeof come_and_go / sizeof *come_and_go);
	tcase_add_test(tcase, units_warm_first);
	tcase_add_test(tcase, units_freed_is_found);
	tcase_add_test(tcase, units_front_comes_back);
	tcase_add_loop_test(tcase, units_go_back, 0, 2);
	return suite;
}

SUPPORT_MAIN(make_suite)
