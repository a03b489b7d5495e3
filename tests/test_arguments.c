/* SPDX-License-Identifier: MIT */
/*
 * White box: room for arguments and blocks against a plain model. A seed that fails is printed; PROCPOOL_TEST_SEED sets it,
 * and PROCPOOL_TEST_ALL makes the runs as long as the contract asks for.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include "arguments.h"
#include "support.h"

#define MIB    ((uint64_t)1 << 20)
#define PLACES 2000

static struct pp__segment segment;
static struct pp__arguments arguments;
static unsigned seed = 20240611;

struct place { int64_t offset; uint64_t size; uint32_t place; unsigned char mark; };
static struct place places[PLACES];

static void set_up(void)
{
	const char *text = getenv("PROCPOOL_TEST_SEED");

	if (text)
		seed = (unsigned)strtoul(text, NULL, 10);
	ck_assert_int_eq(pp__segment_create(&segment, PP__BACKING_MEMFD, 4), 0);
	ck_assert_int_eq(pp__arguments_init(&arguments, segment.shared.header->arguments, segment.shared.header->lives), 0);
}

static void tear_down(void)
{
	pp__arguments_destroy(&arguments, &segment);
	pp__segment_destroy(&segment);
}

/* What the kernel says that the segment has. */
static uint64_t resident(void)
{
	struct stat st;

	ck_assert_int_eq(fstat(segment.fd, &st), 0);
	return (uint64_t)st.st_blocks * 512;
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

/* Edges of everything, else small or large with the same chance for each doubling, up to most. */
static uint64_t random_size(uint64_t most)
{
	static const uint64_t edges[] = { 0, 1, 63, 64, 65, 1023, 1024, 1025, 4095, 4096, 4097, 65535, 65536, 65537 };
	uint64_t r = next_random(), bits = (r >> 8) % 64;

	if (r % 8 == 0)
		return edges[(r >> 16) % (sizeof edges / sizeof *edges)];
	while ((UINT64_C(1) << bits) > most)
		bits = bits * 7 % 23;
	return (UINT64_C(1) << bits) + next_random() % (UINT64_C(1) << bits) / 2;
}

static void touch(struct place *p)
{
	char *bytes = segment.shared.base + p->offset;

	p->mark = (unsigned char)next_random();
	if (p->size) {
		bytes[0] = (char)p->mark;
		bytes[p->size - 1] = (char)p->mark;
	}
}

static bool is_intact(const struct place *p)
{
	const unsigned char *bytes = (unsigned char *)segment.shared.base + p->offset;

	return !p->size || (bytes[0] == p->mark && bytes[p->size - 1] == p->mark);
}

static void take(struct place *p, uint64_t size)
{
	p->size = size;
	p->offset = pp__arguments_take(&arguments, &segment, size, &p->place);
	/* Check notes every assertion that holds in a file, so the good case makes none. */
	if (p->offset % 64 || (uint64_t)p->offset < arguments.begin
	    || (uint64_t)p->offset + size > arguments.begin + arguments.size)
		ck_abort_msg("seed %u: %lld for %llu bytes", seed, (long long)p->offset, (unsigned long long)size);
	touch(p);
}

static void give(struct place *p)
{
	if (!is_intact(p))
		ck_abort_msg("seed %u: bytes of another at %lld", seed, (long long)p->offset);
	pp__arguments_give(&arguments, &segment, p->place);
	p->offset = 0;
}

static int compare(const void *a_, const void *b_)
{
	const struct place *a = a_, *b = b_;

	return a->offset < b->offset ? -1 : a->offset > b->offset;
}

/* No two of them overlap, and their sum is what the books say. */
static void check_model(void)
{
	static struct place sorted[PLACES];
	uint64_t live = 0;

	memcpy(sorted, places, sizeof places);
	qsort(sorted, PLACES, sizeof *sorted, compare);
	for (int i = 0; i < PLACES; i++) {
		if (!sorted[i].offset)
			continue;
		live += pp__arguments_rounded(sorted[i].size);
		ck_assert_msg(i + 1 == PLACES || sorted[i].offset + (int64_t)sorted[i].size <= sorted[i + 1].offset,
		              "seed %u: two at %lld", seed, (long long)sorted[i + 1].offset);
	}
	ck_assert_msg(live == arguments.live, "seed %u", seed);
}

/* Every extent follows its neighbour, no two free ones stand beside each other, and they fill the area. */
static void check_books(void)
{
	uint32_t i = 1, before = 0, at = 0;

	while (arguments.extents[i].before)
		i = arguments.extents[i].before;
	for (; i; before = i, i = arguments.extents[i].after) {
		const struct pp__extent *e = &arguments.extents[i];
		ck_assert_msg(e->before == before && e->start == at && e->size, "seed %u", seed);
		ck_assert_msg(!before || !e->free || !arguments.extents[before].free, "seed %u", seed);
		at += e->size;
	}
	ck_assert_uint_eq((uint64_t)at * 64, arguments.size / 4096 * 4096);
}

START_TEST(against_model)
{
	int rounds = getenv("PROCPOOL_TEST_ALL") ? 10000000 : 40000;
	uint64_t used = resident();

	for (int round = 0; round < rounds; round++) {
		struct place *p = &places[next_random() % PLACES];
		if (p->offset)
			give(p);
		else
			take(p, random_size(65536));
		if (round % (rounds / 20) == 0) {
			check_model();
			check_books();
			ck_assert_uint_ge(resident(), arguments.pages * 4096);
		}
	}
	for (int i = 0; i < PLACES; i++)
		if (places[i].offset)
			give(&places[i]);
	check_books();
	ck_assert_uint_eq(arguments.live, 0);
	ck_assert_uint_le(resident(), used + segment.warm_max + 65536);
}
END_TEST

static void check_fragmentation(uint64_t used, bool print)
{
	uint64_t taken = resident() - used;

	ck_assert_msg(taken * 10 < arguments.live * 13, "seed %u: %llu KiB for %llu KiB", seed,
	              (unsigned long long)taken >> 10, (unsigned long long)arguments.live >> 10);
	if (print)
		printf("# fragmentation: %.3f times the live bytes (%llu KiB for %llu KiB, seed %u)\n",
		       (double)taken / (double)arguments.live, (unsigned long long)taken >> 10,
		       (unsigned long long)arguments.live >> 10, seed);
}

/* The live bytes of a mix that goes on for long, and what the kernel gives for them, from a tenth of it on to its end. */
START_TEST(fragmentation)
{
	long operations = getenv("PROCPOOL_TEST_ALL") ? 10000000 : 300000;
	uint64_t used = resident();

	for (long i = 0; i < operations;) {
		struct place *p = &places[next_random() % (PLACES / 2)];
		if (p->offset && (next_random() & 1))
			give(p);
		else if (!p->offset)
			take(p, next_random() % 2 ? random_size(65536) : next_random() % (2 * MIB / 10));
		else
			continue;
		i++;
		if (i % (operations / 20) == 0 && i >= operations / 10)
			check_fragmentation(used, false);
	}
	check_fragmentation(used, true);
	check_books();
}
END_TEST

START_TEST(places_are_used_again)
{
	struct place a, b, c;

	take(&a, 1000);
	take(&b, 1000);
	ck_assert_int_ne(a.offset, b.offset);
	pp__arguments_give(&arguments, &segment, a.place);
	take(&c, 900);
	ck_assert_int_eq(c.offset, a.offset);
	ck_assert_int_eq(pp__arguments_take(&arguments, &segment, UINT64_MAX, &a.place), -ENOMEM);
	ck_assert_int_eq(pp__arguments_take(&arguments, &segment, UINT64_MAX / 2, &a.place), -ENOMEM);
	ck_assert_int_eq(pp__arguments_take(&arguments, &segment, arguments.size, &a.place), -ENOMEM);
	give(&b);
	give(&c);
	check_books();
}
END_TEST

/* A small request does not break up a large place whose memory will be wanted again. */
START_TEST(large_stays_whole)
{
	struct place large, small[20], edge;
	int64_t was;

	take(&large, 16 * MIB);
	take(&edge, 100);
	was = large.offset;
	give(&large);
	for (int i = 0; i < 20; i++)
		take(&small[i], 1000);
	take(&large, 16 * MIB);
	ck_assert_int_eq(large.offset, was);
	for (int i = 0; i < 20; i++)
		give(&small[i]);
	give(&large);
	give(&edge);
}
END_TEST

START_TEST(freed_memory_goes_back)
{
	uint64_t used = resident(), most = segment.warm_max;
	struct place large, one;

	segment.warm_max = 20 * MIB;
	take(&large, 15 * MIB);
	give(&large);
	ck_assert_uint_ge(resident(), used + 15 * MIB);          /* little enough to be kept warm */
	take(&large, 30 * MIB);
	take(&one, 5000);
	ck_assert_uint_ge(resident(), used + 30 * MIB);
	give(&large);
	ck_assert_uint_le(resident(), used + MIB);
	take(&large, 30 * MIB);
	for (uint64_t i = 1; i < large.size - 1; i += 4096)
		segment.shared.base[(uint64_t)large.offset + i] = 1;
	give(&large);
	give(&one);
	for (int i = 0; i < PLACES; i++)
		take(&places[i], 30000);
	for (int i = 0; i < PLACES; i += 2)
		give(&places[i]);
	for (int i = 1; i < PLACES; i += 2)
		give(&places[i]);
	ck_assert_uint_le(resident(), used + 21 * MIB);
	segment.warm_max = most;
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("arguments");
	TCase *tcase = support_tcase(suite, "room");

	tcase_set_timeout(tcase, 600);
	tcase_add_checked_fixture(tcase, set_up, tear_down);
	tcase_add_test(tcase, against_model);
	tcase_add_test(tcase, fragmentation);
	tcase_add_test(tcase, places_are_used_again);
	tcase_add_test(tcase, large_stays_whole);
	tcase_add_test(tcase, freed_memory_goes_back);
	return suite;
}

SUPPORT_MAIN(make_suite)
