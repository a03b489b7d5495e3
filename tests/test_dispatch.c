/* SPDX-License-Identifier: MIT */
/* Section 2 of the contract: self-dispatch. What makes the descriptor fd_is_readable is in test_fd.c. */
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>
#include "stage.h"

struct seen { atomic_int calls; pid_t thread; };

static void see(pp_future *future, void *seen_)
{
	struct seen *seen = seen_;

	(void)future;
	seen->thread = gettid();
	seen->calls++;
}

START_TEST(fd_readable_then_dispatch)
{
	struct seen seen = { .calls = 0 };
	struct stage stage;

	stage_make(&stage, PP_SELF_DISPATCH);
	for (int i = 1; i <= 20; i++) {
		pp_future *future = stage_submit(&stage, "");
		ck_assert_int_eq(pp_future_add_done_callback(future, see, &seen), 0);
		if (i == 1) {
			ck_assert(!fd_is_readable(stage.ex, 0));
			ck_assert_int_eq(pp_executor_dispatch(stage.ex, 0), 0);
			stage_let_go(&stage);
		}
		ck_assert(fd_is_readable(stage.ex, SUPPORT_GUARD_MS));
		ck_assert(fd_is_readable(stage.ex, 0));                /* level triggered */
		ck_assert_int_eq(seen.calls, i - 1);             /* in dispatch only */
		ck_assert(pp_future_done(future));
		ck_assert_int_eq(pp_executor_dispatch(stage.ex, 0), 1);
		ck_assert_int_eq(seen.calls, i);
		ck_assert_int_eq(seen.thread, gettid());
		ck_assert_int_eq(pp_executor_dispatch(stage.ex, 0), 0);
		pp_future_free(future);
	}
	stage_free(&stage);
	ck_assert_int_eq(seen.calls, 20);
}
END_TEST

START_TEST(self_dispatch_cancel)
{
	struct seen seen[2] = { { .calls = 0 }, { .calls = 0 } };
	struct stage stage;
	pp_future *future;

	stage_make(&stage, PP_SELF_DISPATCH);
	future = stage_submit(&stage, "");
	for (int i = 0; i < 2; i++)
		ck_assert_int_eq(pp_future_add_done_callback(future, see, &seen[i]), 0);
	ck_assert(pp_future_cancel(future));
	ck_assert_int_eq(seen[0].calls + seen[1].calls, 0);
	ck_assert(fd_is_readable(stage.ex, SUPPORT_GUARD_MS));
	ck_assert_int_eq(pp_executor_dispatch(stage.ex, 0), 2);
	ck_assert_int_eq(seen[0].calls, 1);
	ck_assert_int_eq(seen[1].calls, 1);
	ck_assert(pp_future_cancel(future));
	ck_assert_int_eq(pp_executor_dispatch(stage.ex, 0), 0);
	pp_future_free(future);
	stage_free(&stage);
}
END_TEST

START_TEST(self_dispatch_cancel_pending)
{
	struct seen seen = { .calls = 0 };
	struct stage stage;

	stage_make(&stage, PP_SELF_DISPATCH);
	for (int i = 0; i < 10; i++) {
		pp_future *future = stage_submit(&stage, "");
		ck_assert_int_eq(pp_future_add_done_callback(future, see, &seen), 0);
		pp_future_free(future);
	}
	ck_assert_int_eq(pp_executor_shutdown(stage.ex, PP_SHUTDOWN_CANCEL_PENDING, 0), 0);
	ck_assert_int_eq(seen.calls, 0);
	dispatch_until(stage.ex, 10);
	ck_assert_int_eq(seen.calls, 10);
	stage_free(&stage);
}
END_TEST

START_TEST(self_dispatch_already_done)
{
	struct seen seen = { .calls = 0 };
	struct stage stage;
	pp_future *cancelled;

	stage_make(&stage, PP_SELF_DISPATCH);
	cancelled = stage_submit(&stage, "");
	ck_assert(pp_future_cancel(cancelled));
	stage_let_go(&stage);
	ck_assert_int_eq(pp_future_add_done_callback(stage.running, see, &seen), 0);
	ck_assert_int_eq(seen.calls, 0);
	dispatch_until(stage.ex, 1);
	ck_assert_int_eq(seen.calls, 1);
	ck_assert_int_eq(pp_future_add_done_callback(cancelled, see, &seen), 0);
	ck_assert_int_eq(seen.calls, 1);
	dispatch_until(stage.ex, 1);
	ck_assert_int_eq(seen.calls, 2);
	pp_future_free(cancelled);
	stage_free(&stage);
}
END_TEST

/* Ten callbacks wait: their futures are done, and the worker was at the next task's gate after that. */
static void make_ten_wait(struct stage *stage, struct seen *seen)
{
	pp_future *gate;

	for (int i = 0; i < 10; i++) {
		pp_future *future = stage_submit(stage, "");
		ck_assert_int_eq(pp_future_add_done_callback(future, see, seen), 0);
		pp_future_free(future);
	}
	gate = support_submit(stage->ex, task_gate, &stage->gate, sizeof stage->gate);
	stage_let_go(stage);
	gate_await(&stage->gate, 1);
	gate_open(&stage->gate, 1);
	support_assert_kind(gate, PP_RETURNED);
	pp_future_free(gate);
}

START_TEST(dispatch_max)
{
	struct seen seen = { .calls = 0 };
	struct stage stage;

	stage_make(&stage, PP_SELF_DISPATCH);
	make_ten_wait(&stage, &seen);
	ck_assert_int_eq(pp_executor_dispatch(stage.ex, 3), 3);
	ck_assert_int_eq(seen.calls, 3);
	ck_assert(fd_is_readable(stage.ex, SUPPORT_GUARD_MS));         /* some still wait */
	ck_assert_int_eq(pp_executor_dispatch(stage.ex, 1), 1);
	ck_assert(fd_is_readable(stage.ex, SUPPORT_GUARD_MS));
	ck_assert_int_eq(pp_executor_dispatch(stage.ex, UINT32_MAX), 6);
	ck_assert_int_eq(seen.calls, 10);
	ck_assert_int_eq(pp_executor_dispatch(stage.ex, 3), 0);
	stage_free(&stage);
}
END_TEST

struct again { pp_executor *ex; struct seen seen; int rc_add, rc_dispatch, rc_shutdown; };

static void call_dispatch(pp_future *future, void *again_)
{
	struct again *a = again_;

	a->rc_dispatch = pp_executor_dispatch(a->ex, 0);
	a->rc_add = pp_future_add_done_callback(future, see, &a->seen);
	a->rc_shutdown = pp_executor_shutdown(a->ex, PP_SHUTDOWN_WAIT, PP_FOREVER);
}

/* What comes meanwhile is for the next dispatch, so that one cannot go on for ever. */
START_TEST(dispatch_in_callback)
{
	struct again again = { .rc_add = 1 };
	struct stage stage;

	stage_make(&stage, PP_SELF_DISPATCH);
	again.ex = stage.ex;
	ck_assert_int_eq(pp_future_add_done_callback(stage.running, call_dispatch, &again), 0);
	stage_let_go(&stage);
	dispatch_until(stage.ex, 1);
	ck_assert_int_eq(again.rc_dispatch, -EDEADLK);
	ck_assert_int_eq(again.rc_shutdown, -EDEADLK);
	ck_assert_int_eq(again.rc_add, 0);
	ck_assert_int_eq(again.seen.calls, 0);
	dispatch_until(stage.ex, 1);
	ck_assert_int_eq(again.seen.calls, 1);
	stage_free(&stage);
}
END_TEST

static int count_threads(void)
{
	DIR *dir = opendir("/proc/self/task");
	int n = 0;

	ck_assert_ptr_nonnull(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

START_TEST(self_dispatch_has_no_thread)
{
	struct seen seen = { .calls = 0 };
	int before = count_threads();
	struct stage stage;

	stage_make(&stage, PP_SELF_DISPATCH);
	ck_assert_int_eq(pp_future_add_done_callback(stage.running, see, &seen), 0);
	ck_assert_int_eq(count_threads(), before);
	stage_let_go(&stage);
	dispatch_until(stage.ex, 1);
	ck_assert_int_eq(count_threads(), before);
	stage_free(&stage);
}
END_TEST

/* shutdown(WAIT), and free, run the callbacks still to come in their own thread. */
START_TEST(self_dispatch_shutdown_runs_callbacks)
{
	struct seen waiting = { .calls = 0 }, coming = { .calls = 0 };
	struct stage stage;

	for (int by_free = 0; by_free < 2; by_free++) {
		pp_future *future;
		waiting.calls = coming.calls = 0;
		stage_make(&stage, PP_SELF_DISPATCH);
		future = stage_submit(&stage, "");
		ck_assert_int_eq(pp_future_add_done_callback(stage.running, see, &coming), 0);
		ck_assert_int_eq(pp_future_add_done_callback(future, see, &waiting), 0);
		ck_assert(pp_future_cancel(future));
		pp_future_free(future);
		gate_open(&stage.gate, 1);
		if (!by_free)
			ck_assert_int_eq(pp_executor_shutdown(stage.ex, PP_SHUTDOWN_WAIT, SUPPORT_GUARD_MS), 0);
		pp_executor_free(stage.ex);
		ck_assert_int_eq(waiting.calls, 1);
		ck_assert_int_eq(waiting.thread, gettid());
		ck_assert_int_eq(coming.calls, 1);
		ck_assert_int_eq(coming.thread, gettid());
		pp_future_free(stage.running);
		gate_destroy(&stage.gate);
	}
}
END_TEST

/* A callback in another thread's dispatch that stays, and then adds another. */
struct late { pp_executor *ex; atomic_int arrived; atomic_bool go; int rc; struct seen seen; };

static void add_late(pp_future *future, void *late_)
{
	struct late *late = late_;
	int64_t until = now_ms() + SUPPORT_GUARD_MS;

	late->arrived++;
	while (!late->go && now_ms() < until)
		poll(NULL, 0, 1);
	late->rc = pp_future_add_done_callback(future, see, &late->seen);
}

static void dispatch_once(void *late_)
{
	struct late *late = late_;

	pp_executor_dispatch(late->ex, 0);
}

static void shut_down(void *late_)
{
	struct late *late = late_;

	late->rc = pp_executor_shutdown(late->ex, PP_SHUTDOWN_WAIT, SUPPORT_GUARD_MS / 4);
}

static bool processes_are_gone(void *unused)
{
	pid_t pid;

	(void)unused;
	return support_pool_processes(&pid, 1) == 0;
}

START_TEST(self_dispatch_shutdown_runs_late_callbacks)
{
	struct late late = { .arrived = 0 }, shutter;
	struct sleeper dispatcher, shutter_thread;
	struct stage stage;

	stage_make(&stage, PP_SELF_DISPATCH);
	late.ex = shutter.ex = stage.ex;
	ck_assert_int_eq(pp_future_add_done_callback(stage.running, add_late, &late), 0);
	stage_let_go(&stage);
	ck_assert(fd_is_readable(stage.ex, SUPPORT_GUARD_MS));
	sleeper_start(&dispatcher, dispatch_once, &late);
	until_count(&late.arrived, 1, "the callback");
	sleeper_start(&shutter_thread, shut_down, &shutter);
	support_until(processes_are_gone, NULL, "the end of all processes");     /* then callbacks are waited for */
	ck_assert(!sleeper_returned(&shutter_thread));
	late.go = true;
	sleeper_join(&dispatcher);
	sleeper_join(&shutter_thread);
	ck_assert_int_eq(late.rc, 0);
	ck_assert_int_eq(shutter.rc, 0);
	ck_assert_int_eq(late.seen.calls, 1);
	stage_free(&stage);
}
END_TEST

struct pair { pp_executor *ex; atomic_int *calls; int wanted, error; };

static void dispatch_many(void *pair_)
{
	struct pair *pair = pair_;
	int64_t until = now_ms() + SUPPORT_GUARD_MS;

	while (*pair->calls < pair->wanted && now_ms() < until) {
		struct pollfd fd = { .fd = pp_executor_fd(pair->ex), .events = POLLIN };
		poll(&fd, 1, 10);        /* the other thread may take what woke us */
		if (pp_executor_dispatch(pair->ex, 5) < 0)
			pair->error = 1;
	}
}

START_TEST(dispatch_by_two_threads)
{
	enum { N = 1000 };
	static struct seen seen[N];
	atomic_int calls = 0;
	struct pair pair = { .calls = &calls, .wanted = N };
	struct sleeper threads[2];
	struct stage stage;
	int wrong = 0;

	stage_make(&stage, PP_SELF_DISPATCH);
	pair.ex = stage.ex;
	for (int i = 0; i < N; i++) {
		pp_future *future = stage_submit(&stage, "");
		wrong += pp_future_add_done_callback(future, see, &seen[i]) != 0;
		pp_future_free(future);
	}
	for (int i = 0; i < 2; i++)
		sleeper_start(&threads[i], dispatch_many, &pair);
	stage_let_go(&stage);
	for (int64_t until = now_ms() + SUPPORT_GUARD_MS; calls < N && now_ms() < until; poll(NULL, 0, 1)) {
		int n = 0;
		for (int i = 0; i < N; i++)
			n += seen[i].calls;
		calls = n;
	}
	for (int i = 0; i < 2; i++)
		sleeper_join(&threads[i]);
	for (int i = 0; i < N; i++)
		wrong += seen[i].calls != 1;
	ck_assert_int_eq(wrong, 0);
	ck_assert_int_eq(pair.error, 0);
	stage_free(&stage);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("dispatch");
	TCase *dispatch = support_tcase(suite, "dispatch"), *shutdown = support_tcase(suite, "shutdown");

	tcase_add_test(dispatch, fd_readable_then_dispatch);
	tcase_add_test(dispatch, self_dispatch_cancel);
	tcase_add_test(dispatch, self_dispatch_cancel_pending);
	tcase_add_test(dispatch, self_dispatch_already_done);
	tcase_add_test(dispatch, dispatch_max);
	tcase_add_test(dispatch, dispatch_in_callback);
	tcase_add_test(dispatch, dispatch_by_two_threads);
	tcase_add_test(dispatch, self_dispatch_has_no_thread);
	tcase_add_test(shutdown, self_dispatch_shutdown_runs_callbacks);
	tcase_add_test(shutdown, self_dispatch_shutdown_runs_late_callbacks);
	return suite;
}

SUPPORT_MAIN(make_suite)
