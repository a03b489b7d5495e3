/* SPDX-License-Identifier: MIT */
/*
 * White box: the notes by which workers find a slot that the supervisor has put back. Two workers and the supervisor, all
 * played by this process, meet over one note, at each pair of instructions of the one that comes too late. Whatever the
 * order, the slot is somebody's in the end, or is found again. The same where a pause comes in between.
 */
#include <signal.h>
#include <string.h>
#include <ucontext.h>
#include "pool.h"
#include "ring.h"
#include "segment.h"
#include "support.h"
#include "supervisor.h"
#include "worker.h"

#if defined __x86_64__

#define TRAP_FLAG 0x100          /* of the processor: SIGTRAP after each instruction */
#define SLOT      5u
#define STRIDE    3u             /* between the points that are tried: what matters is wider */
#define DIE_WITHIN 120u          /* instructions: by then the late one has cleared its note */
#define MANY      100000u

enum { FIRST, LATE, QUICK, WORKERS };

static struct pp__segment segment;
static struct pp__shared *shared = &segment.shared;
static struct pp__ring_writer ring;
static struct pp__supervisor supervisor;
static struct pp__self workers[WORKERS];

/* What the others do while the late one looks: the quick one claims after so many of its instructions, and dies after so
 * many more. */
static struct { unsigned claim, die; bool on, claimed, died, won; } others;

static void ground_make(void)
{
	ck_assert_int_eq(pp__segment_create(&segment, PP__BACKING_MEMFD, WORKERS), 0);
	atomic_store(&shared->header->levels, 1u << PP__NORMAL);
	atomic_store(&shared->header->slots, SLOT + 1);
	ck_assert_int_eq(pp__ring_init(&ring, &segment, PP__NORMAL), 0);
	memset(&supervisor, 0, sizeof supervisor);
	supervisor.shared = shared;
}

static void be_born(uint32_t entry)
{
	workers[entry] = (struct pp__self){ .shared = shared, .line = shared->workers + entry, .entry = entry,
	                                   .owner = pp__owner(entry, supervisor.incarnations[entry]),
	                                   .plain_levels = 1u << PP__NORMAL };
	atomic_store(&shared->workers[entry].cur, PP__NO_SLOT);
}

/* Settles what it had claimed, as for any worker that is dead. */
static void die(uint32_t entry)
{
	pp__quarantine(&supervisor, entry);
}

/* The slot is ready, and a note of it is all that says so: its first owner died. */
static void put_back_once(void)
{
	struct pp__cell *cell = shared->cells + SLOT;

	for (uint32_t i = 0; i < shared->header->entries; i++)
		atomic_store(&shared->workers[i].requeue, 0);
	for (uint32_t i = 0; i < WORKERS; i++)
		be_born(i);
	pp__slot_ready(cell, pp__word_make(shared->header, SLOT, 1, PP__READY));
	atomic_store(&shared->workers[FIRST].cur, SLOT);
	ck_assert_uint_ne(pp__slot_claim(cell, pp__slot_look(cell), workers[FIRST].owner), 0);
	die(FIRST);
	ck_assert(pp__has_requeued(&supervisor));
}

static void on_step(int signal, siginfo_t *info, void *context)
{
	greg_t *flags = &((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL];
	uint32_t slot;

	(void)signal, (void)info;
	if (others.on && !others.claimed && others.claim-- == 0) {
		others.claimed = true;
		others.won = pp__look(&workers[QUICK], &slot) != 0;
	}
	if (others.on && others.claimed && !others.died && others.die-- == 0) {
		others.died = true;
		die(QUICK);
	}
	*flags = others.on && !others.died ? *flags | TRAP_FLAG : *flags & ~(greg_t)TRAP_FLAG;
}

/* false: the late one had claimed the slot before the quick one looked. */
static bool meet(unsigned claim, unsigned die_later)
{
	uint64_t word;
	uint32_t slot;

	put_back_once();
	others.claim = claim;
	others.die = die_later;
	others.claimed = others.died = others.won = false;
	others.on = true;
	raise(SIGTRAP);
	word = pp__look(&workers[LATE], &slot);
	others.on = false;
	raise(SIGTRAP);
	if (!others.died)
		die(QUICK);
	if (!word)
		word = pp__look(&workers[LATE], &slot);
	ck_assert_msg(word && slot == SLOT, "claimed at %u, dead %u later: the slot is lost", claim, die_later);
	ck_assert(pp__word_is_owned_by(word, workers[LATE].owner));
	return others.won;
}

/* The late one has read a note of the slot; the quick one claims the slot, clears that note, and dies; the supervisor puts
 * a new one there; then the late one clears what it has read, because its claim has failed. */
START_TEST(note_of_a_slot_that_came_back)
{
	struct sigaction action = { .sa_sigaction = on_step, .sa_flags = SA_SIGINFO }, before;
	unsigned claim = 0;

	ground_make();
	sigaction(SIGTRAP, &action, &before);
	for (bool won = true; won && claim < MANY; claim += won ? STRIDE : 0)
		for (unsigned die_later = 0; won && die_later < DIE_WITHIN; die_later += STRIDE)
			won = meet(claim, die_later);
	sigaction(SIGTRAP, &before, NULL);
	ck_assert_uint_gt(claim, 10);
	pp__segment_destroy(&segment);
}
END_TEST

/* After so many instructions the executor is paused. */
static struct { unsigned left; bool on; } pausing;

static void on_step_to_pause(int signal, siginfo_t *info, void *context)
{
	greg_t *flags = &((ucontext_t *)context)->uc_mcontext.gregs[REG_EFL];

	(void)signal, (void)info;
	if (pausing.on && pausing.left-- == 0) {
		atomic_store(&shared->header->levels, 0);
		pausing.on = false;
	}
	*flags = pausing.on ? *flags | TRAP_FLAG : *flags & ~(greg_t)TRAP_FLAG;
}

/* The slot is ready, and an entry of the ring says so. */
static void submit_once(void)
{
	for (uint32_t i = 0; i < WORKERS; i++)
		be_born(i);
	pp__slot_ready(shared->cells + SLOT, pp__word_make(shared->header, SLOT, 1, PP__READY));
	ck_assert_int_eq(pp__ring_push(&ring, &segment, SLOT), 0);
}

/* false: the look was over before. */
static bool pause_at(unsigned instruction, void (*offer)(void))
{
	uint64_t word;
	uint32_t slot;
	bool paused;

	offer();
	pausing.left = instruction;
	pausing.on = true;
	raise(SIGTRAP);
	word = pp__look(&workers[LATE], &slot);
	paused = !pausing.on;
	pausing.on = false;
	raise(SIGTRAP);
	atomic_store(&shared->header->levels, 1u << PP__NORMAL);
	if (!word)
		word = pp__look(&workers[LATE], &slot);
	ck_assert_msg(word && slot == SLOT, "paused after %u instructions: the slot is lost", instruction);
	return paused;
}

static void pause_at_each(void (*offer)(void))
{
	struct sigaction action = { .sa_sigaction = on_step_to_pause, .sa_flags = SA_SIGINFO }, before;
	unsigned instruction = 0;

	ground_make();
	sigaction(SIGTRAP, &action, &before);
	while (pause_at(instruction, offer))
		instruction++;
	sigaction(SIGTRAP, &before, NULL);
	ck_assert_uint_gt(instruction, 10);
	pp__segment_destroy(&segment);
}

/* A worker that sees a pause on its way to a slot leaves what led it there to whoever looks after the resume. */
START_TEST(pause_loses_no_slot)
{
	pause_at_each(submit_once);
	pause_at_each(put_back_once);
}
END_TEST

#endif

static Suite *make_suite(void)
{
	Suite *suite = suite_create("notes");

#if defined __x86_64__
	if (!support_under_valgrind()) {
		tcase_add_test(support_tcase(suite, "notes"), note_of_a_slot_that_came_back);
		tcase_add_test(support_tcase(suite, "pause"), pause_loses_no_slot);
	}
#else
	support_skip("note_of_a_slot_that_came_back", "needs the processor's single step");
	support_skip("pause_loses_no_slot", "needs the processor's single step");
#endif
	return suite;
}

SUPPORT_MAIN(make_suite)
