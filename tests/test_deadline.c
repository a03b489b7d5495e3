/* SPDX-License-Identifier: MIT */
/*
 * Deadlines and timeouts of many: of tasks that wait, by default of the executor, of items of a map, while the job is
 * stopped, and what those cost that do not come to pass. test_time.c has how one that runs is stopped.
 */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include "app.h"
#include "pool.h"
#include "stage.h"

#define SOON_MS   20
#define GRACE_MS  10
#define LONG_MS   (INT64_C(3600) * 1000)

static pp_executor *create(int n, int64_t grace_ms)
{
	pp_options options = support_options(n);

	options.grace_ms = grace_ms;
	return support_create(&options);
}

static pp_future *submit(pp_executor *ex, pp_fn *fn, const void *data, size_t size, int64_t timeout_ms, int64_t deadline_ms)
{
	pp_task_options options = PP_TASK_OPTIONS_INIT;
	pp_future *future;

	options.name = "timed";
	options.timeout_ms = timeout_ms;
	options.deadline_ms = deadline_ms;
	ck_assert_int_eq(pp_submit_with(ex, &options, fn, data, size, &future), 0);
	return future;
}

static _Noreturn void sleep_for_ever(void)
{
	for (;;)
		poll(NULL, 0, -1);
}

static int task_hangs(pp_task *task, const void *data, size_t size)
{
	(void)task, (void)data, (void)size;
	sleep_for_ever();
}

static int task_remaining(pp_task *task, const void *data, size_t size)
{
	int64_t left = pp_task_remaining_ms(task);

	(void)data, (void)size;
	return pp_return(task, PP_BYTES(left));
}

START_TEST(deadline_of_a_pending_task)
{
	struct stage stage;
	pp_future *future;
	const pp_outcome *o;

	stage_make(&stage, 0);
	future = submit(stage.ex, task_echo, "x", 1, 0, SOON_MS);
	o = support_outcome(future);
	ck_assert_int_eq(o->kind, PP_TIMED_OUT);
	ck_assert_uint_eq(o->attempt, 0);
	ck_assert_int_eq(o->pid, 0);
	ck_assert(!pp_future_cancel(future));
	stage_let_go(&stage);
	pp_future_free(future);
	stage_free(&stage);
}
END_TEST

static void count_end(pp_future *future, void *context)
{
	atomic_int *ended = context;

	(void)future;
	atomic_fetch_add(ended, 1);
}

/* Nobody waits, nobody looks: the callback is called all the same. */
START_TEST(deadline_calls_back)
{
	struct stage stage;
	pp_future *futures[50];
	atomic_int ended = 0;

	stage_make(&stage, 0);
	for (int i = 0; i < 50; i++) {
		futures[i] = submit(stage.ex, task_echo, "x", 1, 0, SOON_MS + i % 5);
		ck_assert_int_eq(pp_future_add_done_callback(futures[i], count_end, &ended), 0);
	}
	until_count(&ended, 50, "the callbacks of those past their deadline");
	for (int i = 0; i < 50; i++) {
		support_assert_kind(futures[i], PP_TIMED_OUT);
		pp_future_free(futures[i]);
	}
	stage_let_go(&stage);
	stage_free(&stage);
}
END_TEST

START_TEST(deadline_counts_while_running)
{
		pp_executor *ex = create(1, GRACE_MS);
	pp_future *future = submit(ex, task_hangs, NULL, 0, LONG_MS, SOON_MS);

	support_assert_kind(future, PP_TIMED_OUT);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

START_TEST(defaults_of_the_executor)
{
	pp_options options = support_options(1);
	pp_executor *ex;
	pp_future *timed, *other;
		int64_t forever = PP_FOREVER;

	options.timeout_ms = SOON_MS;
	options.deadline_ms = LONG_MS;
	ex = support_create(&options);
	timed = support_submit(ex, task_hangs, NULL, 0);
	other = submit(ex, task_remaining, NULL, 0, PP_NONE, PP_NONE);
	support_assert_kind(timed, PP_TIMED_OUT);
	support_assert_returned(other, &forever, sizeof forever);
	pp_future_free(timed);
	pp_future_free(other);
	pp_executor_free(ex);
}
END_TEST

/* Timeouts that do not come to pass cost the supervisor no wake per task. */
START_TEST(many_timeouts_cost_no_polling)
{
	enum { N = 10000 };
	pp_executor *ex = create(2, GRACE_MS);
	static pp_future *futures[N];
	char path[64], line[256];
	long before = 0, after = 0;

	for (int round = 0; round < 2; round++) {
		FILE *file;
		for (int i = 0; i < N; i++)
			futures[i] = submit(ex, task_nothing, NULL, 0, LONG_MS, LONG_MS + i);
		for (int i = 0; i < N; i++) {
			support_assert_kind(futures[i], PP_RETURNED);
			pp_future_free(futures[i]);
		}
		snprintf(path, sizeof path, "/proc/%d/status", (int)ex->supervisor.pid);
		file = fopen(path, "r");
		ck_assert_ptr_nonnull(file);
		before = after;
		while (fgets(line, sizeof line, file))
			sscanf(line, "voluntary_ctxt_switches: %ld", &after);
		fclose(file);
	}
	ck_assert_int_lt(after - before, N / 20);        /* the ticks while tasks run are some ten a second */
	pp_executor_free(ex);
}
END_TEST

/*
 * The job is stopped for longer than the timeout of one task and shorter than that of another, and goes on: the time did
 * too. Stopped as a shell does it, all of its process group; and every process that the job has.
 */
#define JOB_PIDS 8
struct job { int all; pid_t *pids; };

static int stopped_job(void *context)
{
		struct job *job = context;
	pp_future *futures[2];
	const pp_outcome *o;
	pp_executor *ex;

	signal(SIGTSTP, SIG_DFL);
	APP_CHECK(setpgid(0, 0) == 0);
	ex = create(2, GRACE_MS);
	for (int i = 0; i < 2; i++)
		futures[i] = submit(ex, task_hangs, NULL, 0, i ? LONG_MS : 200, 0);
	job->pids[0] = ex->supervisor.pid;
	while (pp_executor_workers(ex, job->pids + 1, JOB_PIDS - 1) < 2)
		poll(NULL, 0, 1);
	app_ready();
	APP_CHECK(pp_future_result(futures[0], SUPPORT_GUARD_MS, &o) == 0);
	APP_CHECK(o->kind == PP_TIMED_OUT);
	APP_CHECK(!pp_future_done(futures[1]));
	APP_CHECK(pp_future_kill(futures[1]) == 0);
	APP_CHECK(pp_future_result(futures[1], SUPPORT_GUARD_MS, &o) == 0);
	APP_CHECK(o->kind == PP_KILLED);
	for (int i = 0; i < 2; i++)
		pp_future_free(futures[i]);
	pp_executor_free(ex);
	return 0;
}

static void send_to_all(const struct job *job, const struct app *app, int signal)
{
	ck_assert_int_eq(kill(-app->pid, signal), 0);
	for (int i = 0; job->all && i < JOB_PIDS && job->pids[i]; i++)
		kill(job->pids[i], signal == SIGTSTP ? SIGSTOP : signal);
}

START_TEST(timeouts_go_on_while_stopped)
{
	struct job job = { .all = _i };
	struct app app;
	int status;

	job.pids = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ck_assert_ptr_ne(job.pids, MAP_FAILED);
	app_start(&app, stopped_job, &job);
	app_await_ready(&app);
	send_to_all(&job, &app, SIGTSTP);
	ck_assert_int_eq(waitpid(app.pid, &status, WUNTRACED), app.pid);
	ck_assert(WIFSTOPPED(status));
	poll(NULL, 0, 300);
	send_to_all(&job, &app, SIGCONT);
	app_finish(&app);
	munmap(job.pids, 4096);
}
END_TEST

struct numbers { int next, n; };

static int next_number(const void **data, size_t *size, void *numbers_)
{
	static int number;
	struct numbers *numbers = numbers_;

	if (numbers->next == numbers->n)
		return 0;
	number = numbers->next++;
	*data = &number;
	*size = sizeof number;
	return 1;
}

/* Hangs where the item is odd. */
static int task_odd_hangs(pp_task *task, const void *data, size_t size)
{
	if (*(const int *)data % 2)
		sleep_for_ever();
	return pp_return(task, data, size);
}

/* Each item has its own time, and is a task of its own for that. */
static void map_with_timeouts(pp_executor *ex, const pp_map_options *options)
{
	struct numbers numbers = { 0, 6 };
	const pp_outcome *o;
	uint64_t index;
	pp_map *map;

	ck_assert_int_eq(pp_map_create(ex, options, task_odd_hangs, next_number, &numbers, &map), 0);
	for (uint64_t i = 0; i < 6; i++) {
		ck_assert_int_eq(pp_map_next(map, &index, &o), 1);
		ck_assert_uint_eq(index, i);
		ck_assert_int_eq(o->kind, i % 2 ? PP_TIMED_OUT : PP_RETURNED);
	}
	ck_assert_int_eq(pp_map_next(map, &index, &o), 0);
	pp_map_free(map);
}

START_TEST(map_items_have_timeouts)
{
	pp_executor *ex = create(1, PP_NONE);
	pp_map_options options = PP_MAP_OPTIONS_INIT;
	pp_task_options task = PP_TASK_OPTIONS_INIT;
	pp_map *map;

	task.timeout_ms = SOON_MS;
	options.task = &task;
	options.chunk = 2;
	ck_assert_int_eq(pp_map_create(ex, &options, task_echo, (pp_map_source *)(uintptr_t)abort, NULL, &map), -EINVAL);
	task.timeout_ms = 300;           /* enough for the even ones on any machine */
	options.chunk = 0;
	map_with_timeouts(ex, &options);
	pp_executor_free(ex);
}
END_TEST

START_TEST(bad_times_refused)
{
	static const int64_t bad[] = { -2, INT64_MIN };
	pp_options options = support_options(1);
	pp_executor *ex = create(1, 0);
	pp_task_options task = PP_TASK_OPTIONS_INIT;
	pp_future *future;

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		task.timeout_ms = bad[i];
		ck_assert_int_eq(pp_submit_with(ex, &task, task_nothing, NULL, 0, &future), -EINVAL);
		task.timeout_ms = 0;
		task.deadline_ms = bad[i];
		ck_assert_int_eq(pp_submit_with(ex, &task, task_nothing, NULL, 0, &future), -EINVAL);
		task.deadline_ms = 0;
		options.grace_ms = bad[i];
		ck_assert_int_eq(pp_executor_create(&(pp_executor *){ NULL }, &options), -EINVAL);
	}
	options.grace_ms = 0;
	options.timeout_ms = -1;
	ck_assert_int_eq(pp_executor_create(&(pp_executor *){ NULL }, &options), -EINVAL);
	ck_assert(!pp_task_cancelled(NULL));
	ck_assert_int_eq(pp_task_remaining_ms(NULL), PP_FOREVER);
	task.timeout_ms = task.deadline_ms = INT64_MAX;
	ck_assert_int_eq(pp_submit_with(ex, &task, task_nothing, NULL, 0, &future), 0);
	support_assert_kind(future, PP_RETURNED);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("deadline");
	TCase *deadline = support_tcase(suite, "deadline");

	tcase_add_test(deadline, deadline_of_a_pending_task);
	tcase_add_test(deadline, deadline_calls_back);
	tcase_add_test(deadline, deadline_counts_while_running);
	tcase_add_test(deadline, defaults_of_the_executor);
	tcase_add_test(deadline, many_timeouts_cost_no_polling);
	if (app_tests_can_run())
		tcase_add_loop_test(deadline, timeouts_go_on_while_stopped, 0, 2);
	tcase_add_test(deadline, map_items_have_timeouts);
	tcase_add_test(deadline, bad_times_refused);
	return suite;
}

SUPPORT_MAIN(make_suite)
