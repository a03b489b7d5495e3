/* SPDX-License-Identifier: MIT */
/*
 * Further attempts: which outcomes are followed by one, what the outcome says of those before, and that a task that waits
 * for its next attempt is pending to its caller. Counters that tasks add to say how often a function was really called.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "pool.h"
#include "support.h"

#define SOON_MS 500             /* enough for a task to begin, on any machine */
#define LONG_MS (INT64_C(3600) * 1000)

enum end { CRASH, KILL, EXIT, HANG, RAISE, RETURN };

struct job { long *calls; unsigned good; enum end end; int fds; };

/* Ends as the job says until the attempt that is good. */
static int task_job(pp_task *task, const void *data, size_t size)
{
	struct job job;

	memcpy(&job, data, size);
	__atomic_add_fetch(job.calls, 1, __ATOMIC_SEQ_CST);
	if (job.fds && fcntl(pp_task_fd(task, 0), F_GETFD) < 0)
		return pp_raise(task, 99, "the descriptor is missing");
	if (pp_task_attempt(task) == job.good)
		return pp_return(task, PP_BYTES((unsigned){ pp_task_attempt(task) }));
	if (pp_return(task, (char[5000]){ 1 }, 5000) < 0)
		return -1;
	switch (job.end) {
	case CRASH: abort();
	case KILL: raise(SIGKILL); break;
	case EXIT: _exit(7);
	case HANG: for (;;) poll(NULL, 0, -1);
	case RAISE: return pp_raise(task, 42, "once more");
	case RETURN: break;
	}
	return 0;
}

struct scene { long *calls; pp_executor *ex; pp_task_options options; struct job job; };

static void setup(struct scene *scene, enum end end, unsigned good, uint32_t retries)
{
	pp_options options = support_options(2);

	*scene = (struct scene){ .calls = support_counters(1), .options = PP_TASK_OPTIONS_INIT };
	options.flags = PP_PASS_FDS;
	scene->ex = support_create(&options);
	scene->options.name = "often";
	scene->options.retries = retries;
	scene->options.timeout_ms = end == HANG ? SOON_MS : 0;
	scene->job = (struct job){ .calls = scene->calls, .good = good, .end = end };
}

static pp_future *submit(struct scene *scene)
{
	pp_future *future;

	ck_assert_int_eq(pp_submit_with(scene->ex, &scene->options, task_job, PP_BYTES(scene->job), &future), 0);
	return future;
}

static void teardown(struct scene *scene, pp_future *future, long calls)
{
	ck_assert_int_eq(*scene->calls, calls);
	pp_future_free(future);
	pp_executor_free(scene->ex);
	support_counters_free(scene->calls, 1);
}

static int kind_of(enum end end)
{
	return end == EXIT ? PP_EXITED : end == HANG ? PP_TIMED_OUT : end == RAISE ? PP_RAISED : PP_CRASHED;
}

static void assert_attempts(const pp_outcome *o, unsigned last, enum end end)
{
	ck_assert_uint_eq(o->attempt, last);
	for (unsigned i = last; i-- > 1; ) {
		o = o->earlier;
		ck_assert_ptr_nonnull(o);
		ck_assert_uint_eq(o->attempt, i);
		ck_assert_int_eq(o->kind, kind_of(end));
		ck_assert_str_eq(o->task_name, "often");
		ck_assert_int_gt(o->pid, 0);
		if (end == CRASH || end == KILL)
			ck_assert_int_eq(o->signal, end == CRASH ? SIGABRT : SIGKILL);
		if (end == CRASH)
			ck_assert_int_eq(o->signal_code, SI_TKILL);      /* which only its handler knew */
		if (end == EXIT || end == RAISE)
			ck_assert_int_eq(o->code, end == EXIT ? 7 : 42);
	}
	ck_assert_ptr_null(o->earlier);
}

/* The third attempt is good. */
START_TEST(retries_until_it_returns)
{
	struct scene scene;
	pp_future *future;
	unsigned attempt = 0;

	setup(&scene, (enum end)_i, 3, 5);
	scene.options.retry_on = PP_ON(kind_of(scene.job.end));
	future = submit(&scene);
	ck_assert_int_eq(pp_outcome_value(support_outcome(future), PP_BYTES(attempt)), 0);
	ck_assert_uint_eq(attempt, 3);
	assert_attempts(support_outcome(future), 3, scene.job.end);
	teardown(&scene, future, 3);
}
END_TEST

/* Poison: it is not run more often than it may. */
START_TEST(retries_are_used_up)
{
	struct scene scene;
	pp_future *future;

	setup(&scene, (enum end)_i, 0, 2);
	scene.options.retry_on = PP_ON(kind_of(scene.job.end));
	future = submit(&scene);
	support_assert_kind(future, kind_of(scene.job.end));
	assert_attempts(support_outcome(future), 3, scene.job.end);
	teardown(&scene, future, 3);
}
END_TEST

/* What retry_on does not name is an end. By default: what was raised or returned, and an exit. */
START_TEST(other_outcomes_are_ends)
{
	struct scene scene;
	pp_future *future;

	setup(&scene, (enum end)_i, 0, 2);
	if (scene.job.end < EXIT || scene.job.end == HANG)
		scene.options.retry_on = PP_ON(PP_RAISED);
	future = submit(&scene);
	support_assert_kind(future, scene.job.end == RETURN ? PP_RETURNED : kind_of(scene.job.end));
	assert_attempts(support_outcome(future), 1, scene.job.end);
	teardown(&scene, future, 1);
}
END_TEST

static bool has_failed_once(void *scene_)
{
	struct scene *scene = scene_;

	return __atomic_load_n(scene->calls, __ATOMIC_SEQ_CST) == 1;
}

static bool is_pending(void *future)
{
	return strcmp(pp_future_state(future), "pending") == 0;
}

START_TEST(between_attempts_it_is_pending)
{
	struct scene scene;
	pp_future *future;

	setup(&scene, CRASH, 2, 1);
	scene.options.retry_delay_ms = _i < 2 ? LONG_MS : INT64_MAX;     /* too long to be counted in ns */
	scene.options.retry_delay_max_ms = _i < 2 ? 0 : INT64_MAX;
	future = submit(&scene);
	support_until(has_failed_once, &scene, "the first attempt");
	support_until(is_pending, future, "pending again");
	ck_assert(!pp_future_running(future));
	if (_i == 1)
		ck_assert_int_eq(pp_future_kill(future), 0);
	else
		ck_assert(pp_future_cancel(future));
	support_assert_kind(future, PP_CANCELLED);
	assert_attempts(support_outcome(future)->earlier, 1, CRASH);
	ck_assert_uint_eq(support_outcome(future)->attempt, 1);
	teardown(&scene, future, 1);
}
END_TEST

/* Until it is asked to end; then it crashes, raises, or goes on for ever. */
static int task_until_asked(pp_task *task, const void *data, size_t size)
{
	struct job job;

	(void)size;
	memcpy(&job, data, sizeof job);
	__atomic_add_fetch(job.calls, 1, __ATOMIC_SEQ_CST);
	while (!pp_task_cancelled(task))
		poll(NULL, 0, 1);
	if (job.end == CRASH)
		abort();
	if (job.end == RAISE)
		return pp_raise(task, 42, "as asked");
	for (;;)
		poll(NULL, 0, -1);
}

static void setup_asked(struct scene *scene, enum end end, int64_t timeout_ms)
{
	pp_options options = support_options(1);

	*scene = (struct scene){ .calls = support_counters(1), .options = PP_TASK_OPTIONS_INIT };
	options.grace_ms = SOON_MS;
	scene->ex = support_create(&options);
	scene->options.retries = 5;
	scene->options.retry_on = PP_ON(PP_CRASHED) | PP_ON(PP_TIMED_OUT) | PP_ON(PP_RAISED);
	scene->options.timeout_ms = timeout_ms;
	scene->job = (struct job){ .calls = scene->calls, .end = end };
}

/* One that was to be killed is not started again, whatever this attempt died of. */
START_TEST(killed_is_not_retried)
{
	static const struct { enum end end; int64_t timeout_ms; int kind; } cases[] = {
		{ CRASH, 0, PP_CRASHED }, { RAISE, 0, PP_RAISED }, { HANG, 1, PP_TIMED_OUT }
	};
	struct scene scene;
	pp_future *future;

	for (int shutdown = 0; shutdown < 2; shutdown++) {
		setup_asked(&scene, cases[_i].end, cases[_i].timeout_ms);
		ck_assert_int_eq(pp_submit_with(scene.ex, &scene.options, task_until_asked, PP_BYTES(scene.job), &future), 0);
		support_until(has_failed_once, &scene, "the call");
		if (cases[_i].timeout_ms)
			poll(NULL, 0, 100);      /* most often its time is over by now, and it was asked */
		if (shutdown)
			ck_assert_int_eq(pp_executor_shutdown(scene.ex, PP_SHUTDOWN_KILL, 0), 0);
		else
			ck_assert_int_eq(pp_future_kill(future), 0);
		support_assert_kind(future, cases[_i].kind);
		ck_assert_uint_eq(support_outcome(future)->attempt, 1);
		teardown(&scene, future, 1);
	}
}
END_TEST

static bool has_raised(void *future)
{
	return pp__word_state(pp__slot_look(pp__cell_of(future))) == PP__FAILED;
}

/* Between the end of one attempt and the supervisor's word on the next, while that is stopped: nobody spins, or waits. */
START_TEST(killed_when_it_has_failed)
{
	struct scene scene;
	pp_future *future;
	pid_t supervisor;

	setup(&scene, RAISE, 2, 1);
	scene.options.retry_on = PP_ON(PP_RAISED);
	pp_future_free(support_submit(scene.ex, task_nothing, NULL, 0));
	support_run_for_pid(scene.ex);
	supervisor = support_supervisor();
	ck_assert_int_eq(kill(supervisor, SIGSTOP), 0);
	future = submit(&scene);
	support_until(has_raised, future, "a failed attempt");
	ck_assert(!pp_future_cancel(future));
	if (_i)
		ck_assert_int_eq(pp_executor_shutdown(scene.ex, PP_SHUTDOWN_CANCEL_PENDING, 0), 0);
	else
		ck_assert_int_eq(pp_future_kill(future), 0);
	ck_assert(pp_future_running(future));
	ck_assert_int_eq(kill(supervisor, SIGCONT), 0);
	support_assert_kind(future, PP_CANCELLED);
	assert_attempts(support_outcome(future)->earlier, 1, RAISE);
	teardown(&scene, future, 1);
}
END_TEST

START_TEST(deadline_ends_the_attempts)
{
	struct scene scene;
	pp_future *future;

	setup(&scene, CRASH, 2, 1);
	scene.options.retry_delay_ms = LONG_MS;
	scene.options.deadline_ms = 3000;   /* enough for the first attempt on any machine */
	future = submit(&scene);
	support_assert_kind(future, PP_TIMED_OUT);
	ck_assert_uint_eq(support_outcome(future)->attempt, 1);
	teardown(&scene, future, 1);
}
END_TEST

/* More that are due at once than there are workers, or words for them; and a shutdown waits for them. */
START_TEST(many_at_once)
{
	enum { N = 40 };
	struct scene scene;
	pp_future *futures[N];

	setup(&scene, RAISE, 2, 1);
	scene.options.retry_on = PP_ON(PP_RAISED);
	scene.options.retry_delay_ms = 30;
	for (int i = 0; i < N; i++)
		futures[i] = submit(&scene);
	ck_assert_int_eq(pp_executor_shutdown(scene.ex, PP_SHUTDOWN_WAIT, SUPPORT_GUARD_MS), 0);
	for (int i = 0; i < N; i++) {
		ck_assert(pp_future_done(futures[i]));
		support_assert_kind(futures[i], PP_RETURNED);
		if (i)
			pp_future_free(futures[i]);
	}
	teardown(&scene, futures[0], 2L * N);
}
END_TEST

START_TEST(descriptors_are_kept)
{
	struct scene scene;
	pp_future *future;
	int fds[2];
	char byte;

	setup(&scene, CRASH, 3, 2);
	ck_assert_int_eq(pipe(fds), 0);
	scene.job.fds = 1;
	scene.options.fds = &fds[1];
	scene.options.fd_count = 1;
	future = submit(&scene);
	close(fds[1]);
	support_assert_kind(future, PP_RETURNED);
	ck_assert_int_eq(read(fds[0], &byte, 1), 0);     /* the last copy is closed, soon */
	close(fds[0]);
	teardown(&scene, future, 3);
}
END_TEST

/* Room of attempts that failed comes back. */
START_TEST(nothing_is_kept)
{
	struct scene scene;
	pp_future *future = NULL;
	const struct pp__shared *shared;
	int n = support_many(200);

	setup(&scene, RAISE, 3, 2);
	scene.options.retry_on = PP_ON(PP_RAISED);
	shared = &scene.ex->segment.shared;
	for (int i = 0; i < n; i++) {
		pp_future_free(future);
		future = submit(&scene);
		support_assert_kind(future, PP_RETURNED);
	}
	for (uint32_t i = 0; i < shared->header->small_count && i < 4096; i++)
		if (shared->units[i] & 1)        /* in use */
			ck_assert_int_eq((int)i, -1);
	ck_assert_uint_eq(pp__slots_in_use(scene.ex), 1);
	teardown(&scene, future, 3L * n);
}
END_TEST

/* A word that says that an attempt failed, of a task that has no other: nobody would ever end it. */
START_TEST(forged_failure_is_ended)
{
	struct scene scene;
	pp_future *future;
	struct pp__cell *cell;
	uint64_t word;

	setup(&scene, HANG, 0, 0);
	scene.options.timeout_ms = 0;
	scene.options.deadline_ms = LONG_MS;
	future = submit(&scene);
	support_until_running(future);
	support_until(has_failed_once, &scene, "the call");
	cell = pp__cell_of(future);
	word = atomic_load(&cell->word);
	atomic_store(&cell->word, (word & ~UINT64_C(31)) | PP__FAILED);
	support_assert_kind(future, PP_BROKEN);
	ck_assert_int_eq(pp_executor_signal(scene.ex, SIGKILL), 0);
	teardown(&scene, future, 1);
}
END_TEST

START_TEST(bad_retries_refused)
{
	static const struct { uint32_t retries, on; int64_t delay, most; } bad[] = {
		{ PP_RETRIES_MAX + 1, 0, 0, 0 }, { 1, PP_ON(PP_RETURNED), 0, 0 }, { 1, PP_ON(PP_KILLED), 0, 0 }, { 1, 1, 0, 0 },
		{ 1, 0, -1, 0 }, { 1, 0, 0, -1 }
	};
	struct scene scene;
	pp_future *future;
	pp_block *block;

	setup(&scene, RETURN, 0, 1);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		pp_task_options o = PP_TASK_OPTIONS_INIT;
		o.retries = bad[i].retries;
		o.retry_on = bad[i].on;
		o.retry_delay_ms = bad[i].delay;
		o.retry_delay_max_ms = bad[i].most;
		ck_assert_int_eq(pp_submit_with(scene.ex, &o, task_job, PP_BYTES(scene.job), &future), -EINVAL);
	}
	ck_assert_int_eq(pp_block_create(scene.ex, 100, PP_BLOCK_MUTABLE, &block), 0);
	ck_assert_int_eq(pp_submit_block(scene.ex, &scene.options, task_job, block, 0, 100, &future), -EINVAL);
	pp_block_free(block);
	teardown(&scene, NULL, 0);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("retry");
	TCase *tc = support_tcase(suite, "retry");

	tcase_add_loop_test(tc, retries_until_it_returns, CRASH, RETURN);
	tcase_add_loop_test(tc, retries_are_used_up, CRASH, RETURN);
	tcase_add_loop_test(tc, other_outcomes_are_ends, CRASH, RETURN + 1);
	tcase_add_loop_test(tc, between_attempts_it_is_pending, 0, 3);
	tcase_add_loop_test(tc, killed_is_not_retried, 0, 3);
	tcase_add_loop_test(tc, killed_when_it_has_failed, 0, 2);
	tcase_add_test(tc, deadline_ends_the_attempts);
	tcase_add_test(tc, many_at_once);
	tcase_add_test(tc, descriptors_are_kept);
	tcase_add_test(tc, nothing_is_kept);
	tcase_add_test(tc, forged_failure_is_ended);
	tcase_add_test(tc, bad_retries_refused);
	return suite;
}

SUPPORT_MAIN(make_suite)
