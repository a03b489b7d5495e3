/* SPDX-License-Identifier: MIT */
/*
 * White box: what the supervisor keeps of descriptors, for which slot and generation, and for how long. In a pool two
 * generations of a slot hardly ever meet there; here each message and each word of a slot is given by hand.
 */
#include <errno.h>
#include <string.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>
#include "passing.h"
#include "segment.h"
#include "slot.h"
#include "supervisor.h"
#include "support.h"

#define SLOT 3u

static struct pp__segment segment;
static struct pp__supervisor supervisor;
static int queue;                        /* into which parent and workers write */

static void set_up(void)
{
	int pair[2];

	ck_assert_int_eq(pp__segment_create(&segment, PP__BACKING_MEMFD, 4), 0);
	ck_assert_int_eq(pp__memory_commit(&segment, segment.shared.header->cells, 4096), 0);
	ck_assert_int_eq(pp__memory_commit(&segment, segment.shared.header->descs, 4096), 0);
	atomic_store(&segment.shared.header->slots, SLOT + 1);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	memset(&supervisor, 0, sizeof supervisor);
	supervisor.shared = &segment.shared;
	supervisor.boot.pass_in = pair[0];
	queue = pair[1];
}

static void tear_down(void)
{
	pp__pass_forget(&supervisor);
	ck_assert_int_eq(close(queue), 0);
	pp__segment_destroy(&segment);
}

static void set_word(uint32_t generation, enum pp__state state)
{
	atomic_store(&segment.shared.cells[SLOT].word,
	             pp__word_make(segment.shared.header, SLOT, generation, state));
}

/* Gives the supervisor the only copy of a pipe's writing end, and returns the other. */
static int put(uint32_t generation)
{
	struct pp__pass_message message = { PP__PASS_PUT, SLOT, generation, 0 };
	int fds[2];

	ck_assert_int_eq(pipe(fds), 0);
	ck_assert_int_eq(pp__pass_send(queue, &message, &fds[1], 1, 0), 0);
	ck_assert_int_eq(close(fds[1]), 0);
	pp__pass_serve(&supervisor);
	return fds[0];
}

/* What a worker gets that runs this generation: how many, and the first, or an error. */
static int get(uint32_t generation, int *fd)
{
	struct pp__pass_message message = { PP__PASS_GET, SLOT, generation, 0 };
	int pair[2], fds[PP_TASK_FDS_MAX] = { -1 }, n;

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	ck_assert_int_eq(pp__pass_send(queue, &message, &pair[1], 1, 0), 0);
	ck_assert_int_eq(close(pair[1]), 0);
	pp__pass_serve(&supervisor);
	n = pp__pass_receive(pair[0], &message, fds, MSG_DONTWAIT);
	ck_assert_int_eq(close(pair[0]), 0);
	*fd = fds[0];
	return n >= 0 && message.error ? message.error : n;
}

static bool is_kept(int reader)
{
	struct pollfd end = { .fd = reader, .events = POLLIN };

	return poll(&end, 1, 0) == 0;
}

/* The writing end that came is that of this reader, and there is no copy of it. */
static void assert_is_of(int writer, int reader)
{
	char byte = 0;

	ck_assert_int_eq(write(writer, "x", 1), 1);
	ck_assert_int_eq(read(reader, &byte, 1), 1);
	ck_assert_int_eq(byte, 'x');
	ck_assert_int_eq(close(writer), 0);
	ck_assert(!is_kept(reader));
	ck_assert_int_eq(close(reader), 0);
}

/* Neither that of another generation which stands before it nor any at all is an answer. */
START_TEST(held_for_their_generation)
{
	int first, second, fd;

	set_word(6, PP__DONE);
	first = put(7);
	second = put(8);
	ck_assert_uint_eq(supervisor.held_count, 2);
	ck_assert_int_eq(get(9, &fd), -ENOMEM);
	ck_assert_int_eq(get(6, &fd), -ENOMEM);
	ck_assert_uint_eq(supervisor.held_count, 2);
	ck_assert_int_eq(get(8, &fd), 1);
	assert_is_of(fd, second);
	ck_assert(is_kept(first));
	ck_assert_int_eq(get(7, &fd), 1);
	assert_is_of(fd, first);
	ck_assert_uint_eq(supervisor.held_count, 0);
}
END_TEST

static const struct turn {
	uint32_t held, word;
	enum pp__state state;
	bool stays;
} turns[] = {
	{ 7, 6, PP__DONE, true },                        /* its submit has not made it READY yet */
	{ 7, 6, PP__CANCELLED, true },
	{ 7, 6, PP__RUNNING, true },
	{ 7, 7, PP__READY, true },
	{ 7, 7, PP__RUNNING, true },
	{ 7, 7, PP__DONE, false },
	{ 7, 7, PP__CANCELLED, false },
	{ 7, 8, PP__READY, false },                      /* it is another task's */
	{ 7, 8, PP__RUNNING, false },
	{ 7, 8, PP__DONE, false },
	{ 7, 1000, PP__RUNNING, false },
	{ 0, PP__GENERATION_MASK, PP__DONE, true },      /* round the end of the numbers */
	{ PP__GENERATION_MASK, 0, PP__READY, false },
	{ PP__GENERATION_MASK, PP__GENERATION_MASK, PP__READY, true },
};

START_TEST(held_until_over)
{
	const struct turn *turn = &turns[_i];
	int reader;

	set_word(turn->held - 1, PP__DONE);
	reader = put(turn->held);
	ck_assert(is_kept(reader));
	set_word(turn->word, turn->state);
	pp__pass_serve(&supervisor);
	ck_assert_msg(is_kept(reader) == turn->stays, "%u held, %u in state %d", turn->held, turn->word, turn->state);
	ck_assert_uint_eq(supervisor.held_count, turn->stays);
	ck_assert_int_eq(close(reader), 0);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("passing_held");
	TCase *tcase = support_tcase(suite, "held");

	tcase_add_checked_fixture(tcase, set_up, tear_down);
	tcase_add_test(tcase, held_for_their_generation);
	tcase_add_loop_test(tcase, held_until_over, 0, sizeof turns / sizeof *turns);
	return suite;
}

SUPPORT_MAIN(make_suite)
