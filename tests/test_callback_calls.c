/* SPDX-License-Identifier: MIT */
/* Section 2 of the contract: what callbacks may call, and what shutdown owes them. */
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <string.h>
#include "stage.h"

/* The library's threads come through here, too: the program's own definition goes before libc's. */
static atomic_bool no_threads;
int pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*fn)(void *), void *context)
{
	static int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);

	if (!real)
		*(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
	return no_threads ? EAGAIN : real(thread, attributes, fn, context);
}

START_TEST(callback_thread_cannot_start)
{
	atomic_int calls = 0;
	struct stage stage;
	pp_future *done;

	stage_make(&stage, 0);
	done = stage_submit(&stage, "");
	ck_assert(pp_future_cancel(done));
	no_threads = true;
	ck_assert_int_eq(pp_future_add_done_callback(stage.running, count_call, &calls), -EAGAIN);
	ck_assert_int_eq(pp_future_add_done_callback(done, count_call, &calls), 0);   /* needs no thread */
	ck_assert_int_eq(calls, 1);
	no_threads = false;
	ck_assert_int_eq(pp_future_add_done_callback(stage.running, count_call, &calls), 0);
	stage_let_go(&stage);
	until_count(&calls, 2, "the callback that was added");
	pp_future_free(done);
	stage_free(&stage);
	ck_assert_int_eq(calls, 2);
}
END_TEST

struct adding { atomic_int outer, inner; pp_future *other; bool at_once; int rc; };

static void inner(pp_future *future, void *adding_)
{
	(void)future;
	((struct adding *)adding_)->inner++;
}

static void add_more(pp_future *future, void *adding_)
{
	struct adding *a = adding_;

	a->rc = pp_future_add_done_callback(future, inner, a);
	a->at_once = a->inner == 1;
	if (a->rc == 0)
		a->rc = pp_future_add_done_callback(a->other, inner, a);
	a->outer++;
}

START_TEST(callback_adds_callback)
{
	struct adding adding = { .outer = 0 };
	struct stage stage;
	pp_future *future;

	stage_make(&stage, 0);
	adding.other = stage.running;
	future = stage_submit(&stage, "");
	ck_assert_int_eq(pp_future_add_done_callback(future, add_more, &adding), 0);
	ck_assert(pp_future_cancel(future));
	ck_assert_int_eq(adding.rc, 0);
	ck_assert(adding.at_once);
	ck_assert_int_eq(adding.inner, 1);
	stage_let_go(&stage);
	until_count(&adding.inner, 2, "the callback of the other future");
	pp_future_free(future);
	stage_free(&stage);
	ck_assert_int_eq(adding.outer, 1);
	ck_assert_int_eq(adding.inner, 2);
}
END_TEST

/* A chain: each callback submits the next task, and gives its future up. */
struct chain { pp_executor *ex; atomic_int links; int length, errors; };

static void submit_next(pp_future *future, void *chain_)
{
	struct chain *chain = chain_;
	pp_future *next = NULL;

	pp_future_free(future);
	if (++chain->links == chain->length)
		return;
	if (pp_submit(chain->ex, task_nothing, NULL, 0, &next) < 0
	    || pp_future_add_done_callback(next, submit_next, chain) < 0)
		chain->errors++;
}

START_TEST(callback_submits)
{
	struct chain chain = { .ex = support_executor(2), .length = 200 };
	pp_future *first = support_submit(chain.ex, task_nothing, NULL, 0);

	ck_assert_int_eq(pp_future_add_done_callback(first, submit_next, &chain), 0);
	until_count(&chain.links, chain.length, "the end of the chain");
	pp_executor_free(chain.ex);
	ck_assert_int_eq(chain.errors, 0);
}
END_TEST

struct closing { pp_executor *ex; atomic_int calls; int nowait, wait, twice, submit; };

static void shut_down(pp_future *future, void *closing_)
{
	struct closing *c = closing_;
	pp_future *late;

	(void)future;
	c->wait = pp_executor_shutdown(c->ex, PP_SHUTDOWN_WAIT, PP_FOREVER);
	c->submit = pp_submit(c->ex, task_nothing, NULL, 0, &late);
	c->nowait = pp_executor_shutdown(c->ex, 0, PP_FOREVER);
	c->twice = pp_executor_shutdown(c->ex, PP_SHUTDOWN_WAIT | PP_SHUTDOWN_CANCEL_PENDING, 0);
	c->calls++;
}

static void assert_closed(struct closing *closing)
{
	until_count(&closing->calls, 1, "the callback");
	ck_assert_int_eq(closing->wait, -EDEADLK);
	ck_assert_int_eq(closing->submit, -ESHUTDOWN);   /* shut down, but not waited for */
	ck_assert_int_eq(closing->nowait, 0);
	ck_assert_int_eq(closing->twice, -EDEADLK);
}

/* In each of the threads that callbacks run in. */
START_TEST(callback_calls_shutdown)
{
	for (int way = 0; way < 3; way++) {
		struct closing closing = { .calls = 0 };
		struct stage stage;
		pp_future *future;
		stage_make(&stage, 0);
		closing.ex = stage.ex;
		future = stage_submit(&stage, "");
		if (way == 0)            /* at once */
			ck_assert(pp_future_cancel(future));
		ck_assert_int_eq(pp_future_add_done_callback(future, shut_down, &closing), 0);
		if (way == 1)            /* in the thread that cancels */
			ck_assert(pp_future_cancel(future));
		if (way == 2)            /* in the dispatcher */
			stage_let_go(&stage);
		assert_closed(&closing);
		pp_future_free(future);
		stage_free(&stage);
	}
}
END_TEST

/* The callback of one executor runs inside that of another, in the same thread: it is still one of the other's own. */
struct nest { pp_executor *outer; pp_future *inner_future; int rc_inside, rc_after; atomic_int calls; };

static void shut_outer_down(pp_future *future, void *nest_)
{
	struct nest *nest = nest_;

	(void)future;
	nest->rc_inside = pp_executor_shutdown(nest->outer, PP_SHUTDOWN_WAIT, 2000);
}

static void cancel_inner(pp_future *future, void *nest_)
{
	struct nest *nest = nest_;

	(void)future;
	pp_future_cancel(nest->inner_future);
	nest->rc_after = pp_executor_shutdown(nest->outer, PP_SHUTDOWN_WAIT, 2000);
	nest->calls++;
}

START_TEST(callback_within_callback_calls_shutdown)
{
	struct nest nest = { .calls = 0 };
	struct stage stage, outer_stage;
	pp_future *future;

	stage_make(&outer_stage, 0);
	stage_make(&stage, 0);
	nest.outer = outer_stage.ex;
	nest.inner_future = stage_submit(&stage, "");
	future = stage_submit(&outer_stage, "");
	ck_assert_int_eq(pp_future_add_done_callback(nest.inner_future, shut_outer_down, &nest), 0);
	ck_assert_int_eq(pp_future_add_done_callback(future, cancel_inner, &nest), 0);
	stage_let_go(&outer_stage);
	until_count(&nest.calls, 1, "the outer callback");
	ck_assert_int_eq(nest.rc_inside, -EDEADLK);
	ck_assert_int_eq(nest.rc_after, -EDEADLK);
	pp_future_free(nest.inner_future);
	pp_future_free(future);
	stage_free(&outer_stage);
	stage_free(&stage);
}
END_TEST

static void free_other(pp_future *future, void *closing_)
{
	struct closing *c = closing_;

	(void)future;
	c->wait = pp_executor_shutdown(c->ex, PP_SHUTDOWN_WAIT, SUPPORT_GUARD_MS);
	pp_executor_free(c->ex);
	c->calls++;
}

/* Only its own executor is refused. */
START_TEST(callback_frees_another_executor)
{
	struct closing closing = { .ex = support_executor(1) };
	pp_future *of_other = support_submit(closing.ex, task_echo, "other", 5);
	struct stage stage;

	stage_make(&stage, 0);
	ck_assert_int_eq(pp_future_add_done_callback(stage.running, free_other, &closing), 0);
	stage_let_go(&stage);
	until_count(&closing.calls, 1, "the callback");
	ck_assert_int_eq(closing.wait, 0);
	support_assert_returned(of_other, "other", 5);
	pp_future_free(of_other);
	stage_free(&stage);
}
END_TEST

/* A callback that stays until the test lets it go, and by then has made calls of its own. */
struct stay { pp_executor *ex; atomic_int arrived, left; atomic_bool go; int wrong_call; };

static int make_calls(pp_executor *ex, pp_future *future)
{
	pp_future *other, *next;
	pp_walk *walk;
	atomic_int calls = 0;

	if (pp_submit(ex, task_echo, "inside", 6, &other) < 0)
		return 1;
	if (pp_future_result(other, SUPPORT_GUARD_MS, NULL) < 0 || !pp_future_done(other))
		return 2;
	if (pp_wait((pp_future *[]){ other, future }, 2, PP_ALL_COMPLETED, SUPPORT_GUARD_MS) != 2)
		return 3;
	if (pp_as_completed(&other, 1, SUPPORT_GUARD_MS, &walk) < 0 || pp_walk_next(walk, &next) != 1)
		return 4;
	pp_walk_free(walk);
	if (pp_future_add_done_callback(other, count_call, &calls) < 0 || calls != 1)
		return 5;
	if (pp_future_cancel(future) || pp_future_kill(future) < 0 || pp_executor_workers(ex, NULL, 0) < 1)
		return 6;
	pp_future_free(other);
	return 0;
}

static void stay(pp_future *future, void *stay_)
{
	struct stay *s = stay_;
	int64_t until = now_ms() + SUPPORT_GUARD_MS;

	s->arrived++;
	s->wrong_call = s->ex ? make_calls(s->ex, future) : 0;
	while (!s->go && now_ms() < until)
		poll(NULL, 0, 1);
	s->left++;
}

/* No lock is held meanwhile: the test's own calls get through while the callback is in its. */
START_TEST(callback_runs_outside_locks)
{
	struct stage stage;
	struct stay s = { .arrived = 0 };

	stage_make(&stage, 0);
	s.ex = stage.ex;
	ck_assert_int_eq(pp_future_add_done_callback(stage.running, stay, &s), 0);
	stage_let_go(&stage);
	until_count(&s.arrived, 1, "the callback");
	ck_assert_int_eq(make_calls(stage.ex, stage.running), 0);
	ck_assert_int_eq(s.left, 0);
	s.go = true;
	until_count(&s.left, 1, "the end of the callback");
	ck_assert_int_eq(s.wrong_call, 0);
	stage_free(&stage);
}
END_TEST

struct shutter { pp_executor *ex; struct stay *stay; int rc, left; };

static void shut_and_wait(void *shutter_)
{
	struct shutter *s = shutter_;

	s->rc = pp_executor_shutdown(s->ex, PP_SHUTDOWN_WAIT, SUPPORT_GUARD_MS);
	s->left = s->stay->left;
}

static void assert_shutdown_waits(struct stage *stage, struct stay *s, struct sleeper *shutter_thread)
{
	struct shutter shutter = { .ex = stage->ex, .stay = s };

	until_count(&s->arrived, 1, "the callback");
	ck_assert_int_eq(pp_executor_shutdown(stage->ex, PP_SHUTDOWN_WAIT, 100), -ETIMEDOUT);
	sleeper_start(shutter_thread, shut_and_wait, &shutter);
	ck_assert(!sleeper_returned(shutter_thread));
	s->go = true;
	sleeper_join(shutter_thread);
	ck_assert_int_eq(shutter.rc, 0);
	ck_assert_int_eq(shutter.left, 1);
}

START_TEST(shutdown_waits_for_callbacks)
{
	struct stay s = { .arrived = 0 };
	struct sleeper shutter_thread;
	struct stage stage;

	stage_make(&stage, 0);
	ck_assert_int_eq(pp_future_add_done_callback(stage.running, stay, &s), 0);
	stage_let_go(&stage);
	assert_shutdown_waits(&stage, &s, &shutter_thread);
	stage_free(&stage);
}
END_TEST

static void cancel_future(void *future)
{
	pp_future_cancel(future);
}

static void add_to_done(void *context)
{
	void **arguments = context;

	if (pp_future_add_done_callback(arguments[0], stay, arguments[1]) != 0)
		((struct stay *)arguments[1])->wrong_call = 100;
}

/* way 0: in a thread that cancels; 1: in one that adds to what is done. */
static void assert_shutdown_waits_for_thread(int way)
{
	struct stay s = { .arrived = 0 };
	struct sleeper other, shutter_thread;
	struct stage stage;
	void *arguments[2];
	pp_future *future;

	stage_make(&stage, 0);
	future = stage_submit(&stage, "");
	arguments[0] = future;
	arguments[1] = &s;
	if (way == 0)
		ck_assert_int_eq(pp_future_add_done_callback(future, stay, &s), 0);
	else
		ck_assert(pp_future_cancel(future));
	sleeper_start(&other, way ? add_to_done : cancel_future, way ? (void *)arguments : future);
	stage_let_go(&stage);
	assert_shutdown_waits(&stage, &s, &shutter_thread);
	sleeper_join(&other);
	ck_assert_int_eq(s.wrong_call, 0);
	pp_future_free(future);
	stage_free(&stage);
}

START_TEST(shutdown_waits_for_callbacks_elsewhere)
{
	assert_shutdown_waits_for_thread(0);
	assert_shutdown_waits_for_thread(1);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("callback_calls");
	TCase *calls = support_tcase(suite, "calls"), *shutdown = support_tcase(suite, "shutdown");

	tcase_add_test(calls, callback_thread_cannot_start);
	tcase_add_test(calls, callback_adds_callback);
	tcase_add_test(calls, callback_submits);
	tcase_add_test(calls, callback_calls_shutdown);
	tcase_add_test(calls, callback_within_callback_calls_shutdown);
	tcase_add_test(calls, callback_frees_another_executor);
	tcase_add_test(calls, callback_runs_outside_locks);
	tcase_add_test(shutdown, shutdown_waits_for_callbacks);
	tcase_add_test(shutdown, shutdown_waits_for_callbacks_elsewhere);
	return suite;
}

SUPPORT_MAIN(make_suite)
