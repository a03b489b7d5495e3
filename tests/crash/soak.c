/* SPDX-License-Identifier: MIT */
/*
 * A storm: up to 8 workers, a number that changes, of which one is killed every millisecond or so; 4 threads that submit
 * payloads of 0 bytes to 4 MiB, some with a timeout, a further attempt or another priority, wait in every way there is,
 * cancel and kill. Whatever was submitted ends exactly once; whatever returned has the bytes
 * that follow from its argument; callbacks run once; at the end every slot and every unit of memory is free again. When
 * nothing has moved for 5 s, the main thread prints every state word and gives up.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include "../stage.h"
#include "dump.h"
#include "pool.h"

#define WORKERS  8
#define THREADS  4
#define WINDOW   24
#define LARGEST  (4u << 20)
#define STORM_MOST_S 1800
#define STUCK_MS 5000
#define KILL_US  1000

struct payload { uint64_t id; uint32_t size, sum; unsigned nap_us; };    /* at the front of those that have room for it */

enum count { SUBMITTED, RETURNED, CRASHED, KILLED, TIMED_OUT, CANCELLED, RAISED, REFUSED, WRONG, CALLBACKS, CALLED_BACK,
             KILLS, RESIZES, BYTES, COUNTS };
static const char *const count_names[COUNTS] = { "submitted", "returned", "crashed", "killed", "timed out",
                                                 "cancelled", "raised (no room)", "refused (no room)", "wrong",
                                                 "callbacks", "called back", "kills", "resizes", "bytes returned" };

static struct { pp_executor *ex; atomic_ullong counts[COUNTS]; atomic_bool stop; uint64_t seed; } storm;

struct held { pp_future *future; unsigned char *data; size_t size; bool timed; };
struct caller { pthread_t thread; uint64_t random; struct held held[WINDOW]; size_t n; };

static void count(enum count which, uint64_t n)
{
	atomic_fetch_add_explicit(&storm.counts[which], n, memory_order_relaxed);
}

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static uint32_t below(uint64_t *state, uint32_t n) { return (uint32_t)(next_random(state) >> 32) % n; }

/* Fletcher's, over words where it can be: the storm is about the executor, not about this. */
static uint32_t checksum(const unsigned char *bytes, size_t size)
{
	uint64_t a = 1, b = 0, word;

	for (; size >= sizeof word; bytes += sizeof word, size -= sizeof word) {
		memcpy(&word, bytes, sizeof word);
		b += a += word;
	}
	while (size--)
		b += a += *bytes++;
	return (uint32_t)(a ^ a >> 32 ^ b * 31 ^ b >> 32);
}

/* Returns its argument, each byte inverted. An argument that is not what was submitted is an error of its own. */
static int task_invert(pp_task *task, const void *data, size_t size)
{
	const unsigned char *from = data;
	unsigned char *to = malloc(size + 1);
	struct payload head;
	int rc;

	if (!to)
		return -ENOMEM;
	if (size >= sizeof head) {
		memcpy(&head, data, sizeof head);
		if (head.size != size || checksum(from + sizeof head, size - sizeof head) != head.sum) {
			free(to);
			return pp_raise(task, EILSEQ, "the argument is wrong");
		}
		if (head.nap_us)
			usleep(head.nap_us);
	}
	for (size_t i = 0; i < size; i++)
		to[i] = (unsigned char)~from[i];
	rc = pp_return(task, to, size);
	free(to);
	return rc;
}

/* Half of the tasks are small; every size class of the library is hit, and its borders more often than the rest. */
static size_t draw_size(uint64_t *random)
{
	static const uint32_t borders[] = { 0, 16, 17, 96, 97, 256, 257, 4096, 4097, 65536, 65537, 1u << 20 };

	switch (below(random, 32)) {
	case 0: return borders[below(random, sizeof borders / sizeof *borders)];
	case 1: return below(random, LARGEST + 1);
	case 2: case 3: case 4: return below(random, 200000);
	case 5: case 6: case 7: case 8: case 9: return below(random, 20000);
	case 10: case 11: case 12: case 13: return below(random, 1000);
	default: return below(random, 120);
	}
}

static unsigned char *make_data(uint64_t *random, size_t size)
{
	unsigned char *data = malloc(size + 8);
	struct payload head = { .id = next_random(random), .size = (uint32_t)size };
	uint64_t r = head.id | 1;

	for (size_t i = 0; data && i < size; i += sizeof r) {
		next_random(&r);
		memcpy(data + i, &r, sizeof r);
	}
	if (data && size >= sizeof head) {
		head.nap_us = below(random, 16) ? 0 : below(random, 3000);
		head.sum = checksum(data + sizeof head, size - sizeof head);
		memcpy(data, &head, sizeof head);
	}
	return data;
}

static void on_done(pp_future *future, void *context)
{
	(void)context;
	count(pp_future_done(future) ? CALLED_BACK : WRONG, 1);
}

static bool is_inverse(const pp_outcome *o, const struct held *held)
{
	const unsigned char *bytes = o->data;

	if (o->size != held->size)
		return false;
	for (size_t i = 0; i < o->size; i++)
		if (bytes[i] != (unsigned char)~held->data[i])
			return false;
	return true;
}

static void judge(const pp_outcome *o, const struct held *held)
{
	char text[256];
	bool right;

	switch (o->kind) {
	case PP_RETURNED: right = is_inverse(o, held); break;
	case PP_CRASHED: right = o->signal == SIGKILL; break;
	case PP_RAISED: right = o->code == -ENOMEM || o->code == -ENOSPC; break;
	case PP_TIMED_OUT: right = held->timed; break;
	default: right = o->kind == PP_KILLED || o->kind == PP_CANCELLED;
	}
	if (!right) {
		pp_outcome_describe(o, text, sizeof text);
		fprintf(stderr, "# wrong, of %zu bytes: %s, %zu bytes\n", held->size, text, o->size);
		count(WRONG, 1);
		return;
	}
	count(o->kind == PP_RETURNED ? RETURNED : o->kind == PP_CRASHED ? CRASHED : o->kind == PP_KILLED ? KILLED
	      : o->kind == PP_CANCELLED ? CANCELLED : o->kind == PP_TIMED_OUT ? TIMED_OUT : RAISED, 1);
	count(BYTES, o->kind == PP_RETURNED ? o->size : 0);
}

static pp_task_options draw_options(uint64_t *random)
{
	pp_task_options options = PP_TASK_OPTIONS_INIT;

	options.priority = below(random, 8) ? 0 : (int32_t)below(random, 3) - 1;
	options.timeout_ms = below(random, 16) ? 0 : 1 + below(random, 3);
	options.retries = below(random, 16) ? 0 : 1 + below(random, 2);
	options.retry_delay_ms = options.retries ? below(random, 3) : 0;
	return options;
}

static void submit_one(struct caller *caller)
{
	struct held *held = &caller->held[caller->n];
	pp_task_options options = draw_options(&caller->random);
	int rc;

	held->timed = options.timeout_ms > 0;
	held->size = draw_size(&caller->random);
	held->data = make_data(&caller->random, held->size);
	rc = held->data ? pp_submit_with(storm.ex, &options, task_invert, held->data, held->size, &held->future) : -ENOMEM;
	if (rc < 0) {
		count(rc == -ENOMEM || rc == -ENOSPC ? REFUSED : WRONG, 1);
		free(held->data);
		return;
	}
	count(SUBMITTED, 1);
	caller->n++;
	if (below(&caller->random, 8) == 0 && pp_future_add_done_callback(held->future, on_done, NULL) == 0)
		count(CALLBACKS, 1);
	if (below(&caller->random, 20) == 0)
		pp_future_cancel(caller->held[below(&caller->random, (uint32_t)caller->n)].future);
	if (below(&caller->random, 100) == 0)
		pp_future_kill(caller->held[below(&caller->random, (uint32_t)caller->n)].future);
}

/* Whatever it is that it waits for, none of these may time out: the main thread is the one that loses patience. */
static void wait_somehow(struct caller *caller)
{
	pp_future *futures[WINDOW], *next;
	pp_walk *walk;

	for (size_t i = 0; i < caller->n; i++)
		futures[i] = caller->held[i].future;
	switch (below(&caller->random, 4)) {
	case 0:
		pp_wait(futures, caller->n, PP_FIRST_COMPLETED, PP_FOREVER);
		break;
	case 1:
		if (pp_as_completed(futures, caller->n, PP_FOREVER, &walk) < 0)
			break;
		for (uint32_t i = below(&caller->random, WINDOW); i && pp_walk_next(walk, &next) == 1; i--)
			;
		pp_walk_free(walk);
		break;
	case 2:
		pp_future_result(futures[below(&caller->random, (uint32_t)caller->n)], 1, NULL);
		break;
	default:
		pp_future_result(futures[0], PP_FOREVER, NULL);
	}
}

/* Takes out what has ended; all: waits for it. Some are given up without a look. */
static void collect(struct caller *caller, bool all)
{
	size_t kept = 0;

	for (size_t i = 0; i < caller->n; i++) {
		struct held *held = &caller->held[i];
		const pp_outcome *o;
		if (!all && !pp_future_done(held->future)) {
			caller->held[kept++] = *held;
			continue;
		}
		if (pp_future_result(held->future, PP_FOREVER, &o) == 0)
			judge(o, held);
		else
			count(WRONG, 1);
		pp_future_free(held->future);
		free(held->data);
	}
	caller->n = kept;
}

static void *caller_main(void *caller_)
{
	struct caller *caller = caller_;

	while (!storm.stop) {
		for (uint32_t i = 1 + below(&caller->random, WINDOW); i && caller->n < WINDOW; i--)
			submit_one(caller);
		if (caller->n)
			wait_somehow(caller);
		collect(caller, false);
	}
	collect(caller, true);
	return NULL;
}

/* Storms and lulls: what takes long never ends in a storm. */
static void *killer_main(void *unused)
{
	uint64_t random = storm.seed * 7 + 5;
	pid_t pids[WORKERS];

	(void)unused;
	while (!storm.stop) {
		bool lull = now_ms() / 250 % 2;
		int n = pp_executor_workers(storm.ex, pids, WORKERS);
		if (n > WORKERS)
			n = WORKERS;
		if (n > 0 && kill(pids[below(&random, (uint32_t)n)], SIGKILL) == 0)
			count(KILLS, 1);
		if (below(&random, 64) == 0 && pp_executor_resize(storm.ex, 1 + (int)below(&random, WORKERS)) == 0)
			count(RESIZES, 1);
		usleep((lull ? 20 : 1) * below(&random, 2 * KILL_US));
	}
	return NULL;
}

/* Until the time is over, or nothing has moved for so long. */
static bool watch(int64_t until)
{
	unsigned long long last = 0, now;
	int64_t moved = now_ms();

	while (now_ms() < until) {
		poll(NULL, 0, 50);
		now = storm.counts[SUBMITTED] + storm.counts[RETURNED] + storm.counts[CRASHED] + storm.counts[KILLED];
		if (now != last)
			moved = now_ms();
		last = now;
		if (now_ms() - moved > STUCK_MS)
			return false;
	}
	return true;
}

/* After the shutdown: nobody else is there. */
static uint64_t still_in_use(void)
{
	const struct pp__shared *shared = &storm.ex->segment.shared;
	uint64_t n;

	pthread_mutex_lock(&storm.ex->submit_lock);
	pp__slots_harvest(storm.ex);
	n = pp__slots_in_use(storm.ex);
	for (int big = 0; big < 2; big++)
		for (uint32_t i = 0; i < shared->control->units_used[big]; i++)
			n += shared->units[i + (big ? shared->header->small_count : 0)] & 1;
	pthread_mutex_unlock(&storm.ex->submit_lock);
	return n;
}

static void print_counts(int64_t ms)
{
	printf("# storm of %.1f s, CRASH_SEED=%llu:", (double)ms / 1000, (unsigned long long)storm.seed);
	for (int i = 0; i < COUNTS; i++)
		printf(" %s %llu%s", count_names[i], (unsigned long long)storm.counts[i], i < COUNTS - 1 ? "," : "\n");
	fflush(stdout);
}

static void *end_main(void *callers_)
{
	struct caller *callers = callers_;

	for (int i = 0; i < THREADS; i++)
		pthread_join(callers[i].thread, NULL);
	pp_executor_shutdown(storm.ex, PP_SHUTDOWN_WAIT, PP_FOREVER);
	return NULL;
}

static void give_up(const char *where)
{
	fprintf(stderr, "# nothing has moved for %d ms, %s\n", STUCK_MS, where);
	dump_executor(storm.ex);
	print_counts(0);
	ck_abort_msg("stuck: %s", where);
}

static long all_seconds(void)
{
	const char *seconds = getenv("SOAK_SECONDS");

	return seconds && *seconds ? atol(seconds) : 10;
}

/* Check counts the microseconds of a test in an int: longer ones are several. */
static int storms(void)
{
	int n = (int)((all_seconds() + STORM_MOST_S - 1) / STORM_MOST_S);

	return n > 0 ? n : 1;
}

START_TEST(storm_of_kills)
{
	const char *seed = getenv("CRASH_SEED");
	int64_t begin = now_ms(), length = all_seconds() * 1000 / storms();
	static struct caller callers[THREADS];
	pp_options options = support_options(WORKERS);
	struct timespec limit;
	pthread_t killer, end;

	options.start_attempts = 1000000;        /* the killer meets those that start, too */
	storm.seed = seed ? strtoull(seed, NULL, 0) : (uint64_t)begin;
	storm.ex = support_create(&options);
	for (int i = 0; i < THREADS; i++) {
		callers[i].random = (storm.seed * 1000 + (uint64_t)i) * UINT64_C(0x9e3779b97f4a7c15) | 1;
		ck_assert_int_eq(pthread_create(&callers[i].thread, NULL, caller_main, &callers[i]), 0);
	}
	ck_assert_int_eq(pthread_create(&killer, NULL, killer_main, NULL), 0);
	if (!watch(begin + length))
		give_up("in the storm");
	storm.stop = true;
	pthread_join(killer, NULL);
	ck_assert_int_eq(pthread_create(&end, NULL, end_main, callers), 0);
	clock_gettime(CLOCK_REALTIME, &limit);
	limit.tv_sec += 4 * STUCK_MS / 1000;
	if (pthread_timedjoin_np(end, NULL, &limit) != 0)
		give_up("in the end");
	print_counts(now_ms() - begin);
	ck_assert_uint_eq(storm.counts[WRONG], 0);
	ck_assert_uint_eq(storm.counts[SUBMITTED], storm.counts[RETURNED] + storm.counts[CRASHED] + storm.counts[KILLED]
	                                           + storm.counts[TIMED_OUT] + storm.counts[CANCELLED] + storm.counts[RAISED]);
	ck_assert_uint_eq(storm.counts[CALLBACKS], storm.counts[CALLED_BACK]);
	ck_assert_uint_eq(still_in_use(), 0);
	ck_assert_uint_gt(storm.counts[RETURNED], 0);
	pp_executor_free(storm.ex);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("soak");
	TCase *soak = support_tcase(suite, "soak");

	tcase_set_timeout(soak, 0);
	tcase_add_loop_test(soak, storm_of_kills, 0, storms());
	return suite;
}

SUPPORT_MAIN(make_suite)
