/* SPDX-License-Identifier: MIT */
/* PP_INLINE: the same calls with the same outcomes as in workers, in the caller's own process. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include "stage.h"

static pp_executor *make(int workers, unsigned flags)
{
	pp_options options = support_options(workers);

	options.flags = flags;
	return support_create(&options);
}

static unsigned char big[100000];

static int task_big(pp_task *task, const void *data, size_t size)
{
	(void)data;
	(void)size;
	return pp_return(task, big, sizeof big);
}

static int task_in_place(pp_task *task, const void *data, size_t size)
{
	char *room = pp_return_alloc(task, 10000);

	if (!room || size > 10000)
		return 1;
	memcpy(room, data, size);
	return pp_return_commit(task, size);
}

static int task_raises_detail(pp_task *task, const void *data, size_t size)
{
	return pp_raise_data(task, 9, data, size, "with detail of %zu bytes", size);
}

static int task_nonzero(pp_task *task, const void *data, size_t size)
{
	(void)pp_return(task, data, size);
	return 3;
}

static int task_raises_zero(pp_task *task, const void *data, size_t size)
{
	(void)data;
	(void)size;
	pp_raise(task, 0, NULL);
	return 0;
}

static int task_bad_return(pp_task *task, const void *data, size_t size)
{
	(void)data;
	return pp_return(task, NULL, size + 1) ? 0 : 1;
}

static int task_of_name(pp_task *task, const void *data, size_t size)
{
	const char *name = pp_task_name(task);

	(void)data;
	(void)size;
	return pp_task_attempt(task) == 1 ? pp_return(task, name, strlen(name)) : 1;
}

static const struct { pp_fn *fn; size_t size; const char *name; } rows[] = {
	{ task_echo, 0, NULL }, { task_echo, 7, NULL }, { task_echo, 200, NULL }, { task_echo, 5000, "a name" },
	{ task_echo, sizeof big, NULL }, { task_big, 0, NULL }, { task_nothing, 3, "n" }, { task_raise, 0, "raises" },
	{ task_in_place, 5000, NULL }, { task_in_place, 10, NULL }, { task_raises_detail, 1000, NULL },
	{ task_nonzero, 5, NULL }, { task_raises_zero, 0, NULL }, { task_bad_return, 0, NULL }, { task_of_name, 0, "who" }
};

static void assert_same(const pp_outcome *a, const pp_outcome *b)
{
	ck_assert_int_eq(a->kind, b->kind);
	ck_assert_int_eq(a->code, b->code);
	ck_assert_uint_eq(a->size, b->size);
	ck_assert(memcmp(a->data, b->data, a->size) == 0);
	ck_assert_str_eq(a->message, b->message);
	ck_assert_str_eq(a->task_name, b->task_name);
	ck_assert_uint_eq(a->attempt, b->attempt);
	ck_assert_int_eq(a->worker, b->worker);
}

START_TEST(inline_outcomes_as_in_workers)
{
	pp_executor *there = make(1, 0), *here = make(PP_INLINE, 0);

	for (size_t i = 0; i < sizeof big; i++)
		big[i] = (unsigned char)(i * 7);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		pp_task_options options = PP_TASK_OPTIONS_INIT;
		pp_future *a, *b;
		options.name = rows[i].name;
		ck_assert_int_eq(pp_submit_with(there, &options, rows[i].fn, big, rows[i].size, &a), 0);
		ck_assert_int_eq(pp_submit_with(here, &options, rows[i].fn, big, rows[i].size, &b), 0);
		ck_assert(pp_future_done(b));
		ck_assert_int_eq(support_outcome(b)->pid, getpid());
		if (rows[i].fn != task_big)      /* what the caller filled in after create is not there in workers */
			assert_same(support_outcome(a), support_outcome(b));
		pp_future_free(a);
		pp_future_free(b);
	}
	pp_executor_free(there);
	pp_executor_free(here);
}
END_TEST

START_TEST(inline_has_no_process)
{
	pp_executor *ex = make(PP_INLINE, PP_START_ALL);
	pp_future *future = support_submit(ex, task_pid, NULL, 0);
	pid_t pid, pids[4];
	pp_stats stats = PP_STATS_INIT;

	ck_assert_int_eq(pp_outcome_value(support_outcome(future), PP_BYTES(pid)), 0);
	ck_assert_int_eq(pid, getpid());
	ck_assert_uint_eq(support_pool_processes(pids, 4), 0);
	ck_assert_int_eq(pp_executor_workers(ex, NULL, 0), 0);
	ck_assert_int_eq(pp_executor_stats(ex, &stats), 0);
	ck_assert_uint_eq(stats.outcomes[PP_RETURNED], 1);
	ck_assert_uint_eq(stats.pending + stats.running, 0);
	ck_assert_ptr_null(pp_executor_broken(ex));
	ck_assert_int_eq(pp_executor_pause(ex), -ENOTSUP);
	ck_assert(!pp_future_cancel(future));
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

static pp_executor *outer;

static int task_submits(pp_task *task, const void *data, size_t size)
{
	int rc = pp_submit(outer, task_nothing, NULL, 0, NULL);

	(void)data;
	(void)size;
	return pp_return(task, PP_BYTES(rc));
}

START_TEST(inline_no_nested_submit)
{
	int refused = -ECHILD;
	pp_future *future;

	outer = make(PP_INLINE, 0);
	future = support_submit(outer, task_submits, NULL, 0);
	support_assert_returned(future, PP_BYTES(refused));
	pp_future_free(future);
	pp_executor_free(outer);
}
END_TEST

static int hooks[2], last_hook_size;

static int hook_begin(pp_task *task, const void *data, size_t size)
{
	(void)data;
	hooks[0]++;
	last_hook_size = (int)size;
	pp_task_set_worker_data(task, hooks);
	return 0;
}

static int hook_end(pp_task *task, const void *data, size_t size)
{
	(void)data;
	(void)size;
	hooks[1] += pp_task_worker_data(task) == hooks;
	return 0;
}

static int hook_fails(pp_task *task, const void *data, size_t size)
{
	(void)data;
	(void)size;
	return pp_raise(task, 5, "no good");
}

START_TEST(inline_initializer_and_finalizer)
{
	pp_options options = support_options(PP_INLINE);
	pp_executor *ex;
	pp_future *future;

	options.initializer = hook_begin;
	options.initializer_data = "data";
	options.initializer_size = 4;
	options.finalizer = hook_end;
	ex = support_create(&options);
	ck_assert_int_eq(hooks[0], 1);
	ck_assert_int_eq(last_hook_size, 4);
	ck_assert_int_eq(pp_executor_run_on_workers(ex, hook_begin, "abc", 3, 0), 1);
	ck_assert_int_eq(last_hook_size, 3);
	ck_assert_int_eq(hooks[1], 0);
	pp_executor_free(ex);
	ck_assert_int_eq(hooks[0], 2);
	ck_assert_int_eq(hooks[1], 1);
	/* One that fails breaks it, as where no worker is left. */
	options.initializer = hook_fails;
	ex = support_create(&options);
	ck_assert_ptr_nonnull(pp_executor_broken(ex));
	ck_assert_int_eq(pp_executor_broken(ex)->code, -ECANCELED);
	ck_assert_ptr_nonnull(strstr(pp_executor_broken(ex)->message, "no good"));
	ck_assert_int_eq(pp_submit(ex, task_nothing, NULL, 0, &future), -EPIPE);
	pp_executor_free(ex);
	ck_assert_int_eq(hooks[1], 1);
	options.flags = PP_START_ALL;
	ck_assert_int_eq(pp_executor_create(&ex, &options), -ECANCELED);
}
END_TEST

static void count(pp_future *future, void *context)
{
	(void)future;
	++*(int *)context;
}

START_TEST(inline_callbacks_waits_detached)
{
	pp_executor *ex = make(PP_INLINE, 0);
	pp_future *futures[20], *next;
	pp_walk *walk;
	int called = 0, walked = 0;

	for (int i = 0; i < 20; i++) {
		futures[i] = support_submit(ex, i % 3 ? task_nothing : task_raise, NULL, 0);
		ck_assert_int_eq(pp_future_add_done_callback(futures[i], count, &called), 0);
		ck_assert_int_eq(called, i + 1);
		ck_assert_int_eq(pp_submit(ex, task_nothing, NULL, 0, NULL), 0);
	}
	ck_assert_int_eq(pp_wait(futures, 20, PP_ALL_COMPLETED, SUPPORT_GUARD_MS), 20);
	ck_assert_int_eq(pp_as_completed(futures, 20, SUPPORT_GUARD_MS, &walk), 0);
	while (pp_walk_next(walk, &next) == 1)
		walked++;
	ck_assert_int_eq(walked, 20);
	pp_walk_free(walk);
	for (int i = 0; i < 20; i++)
		pp_future_free(futures[i]);
	pp_executor_free(ex);
}
END_TEST

START_TEST(inline_self_dispatch)
{
	pp_executor *ex = make(PP_INLINE, PP_SELF_DISPATCH);
	pp_future *future = support_submit(ex, task_nothing, NULL, 0);
	struct pollfd fd = { .fd = pp_executor_fd(ex), .events = POLLIN };
	int called = 0;

	ck_assert_int_eq(poll(&fd, 1, 0), 0);
	ck_assert_int_eq(pp_future_add_done_callback(future, count, &called), 0);
	ck_assert_int_eq(called, 0);
	ck_assert_int_eq(poll(&fd, 1, (int)SUPPORT_GUARD_MS), 1);
	ck_assert_int_eq(pp_executor_dispatch(ex, 0), 1);
	ck_assert_int_eq(called, 1);
	ck_assert_int_eq(poll(&fd, 1, 0), 0);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

static int item_odd_raises(pp_task *task, const void *data, size_t size)
{
	int n;

	memcpy(&n, data, size);
	return n % 2 ? pp_raise(task, n, "%d is odd", n) : pp_return(task, PP_BYTES(n));
}

START_TEST(inline_map_and_blocks)
{
	pp_executor *ex = make(PP_INLINE, 0);
	int in[200], out[200], kinds[200];
	pp_block *block;
	pp_future *future;

	for (int i = 0; i < 200; i++)
		in[i] = i;
	ck_assert_int_eq(pp_map_array(ex, item_odd_raises, in, sizeof *in, out, sizeof *out, 200, kinds), 100);
	for (int i = 0; i < 200; i++) {
		ck_assert_int_eq(kinds[i], i % 2 ? PP_RAISED : PP_RETURNED);
		ck_assert(i % 2 || out[i] == i);
	}
	ck_assert_int_eq(pp_block_create(ex, 1000, 0, &block), 0);
	memset(pp_block_data(block), 'b', 1000);
	ck_assert_int_eq(pp_submit_block(ex, NULL, task_echo, block, 100, 800, &future), 0);
	support_assert_returned(future, (char *)pp_block_data(block) + 100, 800);
	pp_block_free(block);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

static int task_writes_to_fd(pp_task *task, const void *data, size_t size)
{
	if (pp_task_fd(task, 1) != -EINVAL || write(pp_task_fd(task, 0), data, size) != (ssize_t)size)
		return 1;
	return 0;
}

START_TEST(inline_descriptors)
{
	pp_executor *ex = make(PP_INLINE, PP_PASS_FDS);
	pp_task_options options = PP_TASK_OPTIONS_INIT;
	char bytes[8] = "";
	pp_future *future;
	int fds[2];

	ck_assert_int_eq(pipe(fds), 0);
	options.fds = &fds[1];
	options.fd_count = 1;
	ck_assert_int_eq(pp_submit_with(ex, &options, task_writes_to_fd, "hello", 5, &future), 0);
	close(fds[1]);
	support_assert_returned(future, NULL, 0);
	ck_assert_int_eq(read(fds[0], bytes, sizeof bytes), 5);
	ck_assert_str_eq(bytes, "hello");
	ck_assert_int_eq(read(fds[0], bytes, sizeof bytes), 0);  /* the task's own is closed */
	pp_future_free(future);
	ck_assert_int_eq(pp_submit_with(ex, &options, task_writes_to_fd, "hello", 5, &future), -EBADF);
	close(fds[0]);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

static void submit_many(void *executor)
{
	for (int i = 0; i < 200; i++) {
		pp_future *future = support_submit(executor, task_echo, PP_BYTES(i));
		support_assert_returned(future, PP_BYTES(i));
		pp_future_free(future);
	}
}

START_TEST(inline_threads)
{
	pp_executor *ex = make(PP_INLINE, 0);
	struct sleeper sleepers[4];
	pp_stats stats = PP_STATS_INIT;

	for (int i = 0; i < 4; i++)
		sleeper_start(&sleepers[i], submit_many, ex);
	for (int i = 0; i < 4; i++)
		sleeper_join(&sleepers[i]);
	ck_assert_int_eq(pp_executor_stats(ex, &stats), 0);
	ck_assert_uint_eq(stats.outcomes[PP_RETURNED], 800);
	pp_executor_free(ex);
}
END_TEST

static int task_counts_down(pp_task *task, const void *data, size_t size)
{
	int64_t left = pp_task_remaining_ms(task);

	(void)data, (void)size;
	poll(NULL, 0, 5);
	return pp_return(task, (int64_t[]){ left, pp_task_remaining_ms(task), pp_task_cancelled(task) }, 3 * sizeof left);
}

/* Whoever steps through a task has all the time there is. */
START_TEST(inline_has_no_time_limits)
{
	pp_task_options options = PP_TASK_OPTIONS_INIT;
	pp_executor *ex = make(PP_INLINE, 0);
	const int64_t wanted[] = { PP_FOREVER, PP_FOREVER, false };
	pp_future *future;

	options.timeout_ms = 1;
	options.deadline_ms = 2;
	options.retries = 3;
	options.priority = 1;
	ck_assert_int_eq(pp_submit_with(ex, &options, task_counts_down, NULL, 0, &future), 0);
	support_assert_returned(future, wanted, sizeof wanted);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("inline");
	TCase *outcomes = support_tcase(suite, "outcomes"), *calls = support_tcase(suite, "calls");

	tcase_add_test(outcomes, inline_outcomes_as_in_workers);
	tcase_add_test(outcomes, inline_has_no_process);
	tcase_add_test(outcomes, inline_no_nested_submit);
	tcase_add_test(outcomes, inline_initializer_and_finalizer);
	tcase_add_test(calls, inline_callbacks_waits_detached);
	tcase_add_test(calls, inline_self_dispatch);
	tcase_add_test(calls, inline_map_and_blocks);
	tcase_add_test(calls, inline_descriptors);
	tcase_add_test(calls, inline_threads);
	tcase_add_test(calls, inline_has_no_time_limits);
	return suite;
}

SUPPORT_MAIN(make_suite)
