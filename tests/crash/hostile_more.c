/* SPDX-License-Identifier: MIT */
/*
 * A hostile host, continued: workers that stay frozen for long, at the places that matter; an application that forks all
 * the time while its pool works; and a wall clock that jumps by hours at each look. That clock is this file's: it stands
 * before libc's for the library too, which is linked into this program. Stepping the machine's would be everybody's.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "../app.h"
#include "../stage.h"
#include "../stepper.h"
#include "hostile.h"
#include "pool.h"
#include "wake.h"
#include "worker.h"

/* ---- a wall clock that jumps */

#define HOURS 3600

static long *wall_looks;         /* NULL: the clock is as it is */

static time_t jump(void)
{
	static const int hours[] = { 5, -7, 100, 0, -1, 30000, -2000 };

	return wall_looks ? hours[__atomic_fetch_add(wall_looks, 1, __ATOMIC_RELAXED) % 7] * HOURS : 0;
}

int clock_gettime(clockid_t clock, struct timespec *t)
{
	bool wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;

	if (syscall(SYS_clock_gettime, clock, t) < 0)
		return -1;
	t->tv_sec += wall ? jump() : 0;
	return 0;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone)
{
	struct timespec t;

	(void)zone;
	clock_gettime(CLOCK_REALTIME, &t);
	*tv = (struct timeval){ .tv_sec = t.tv_sec, .tv_usec = t.tv_nsec / 1000 };
	return 0;
}

time_t time(time_t *result)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	if (result)
		*result = t.tv_sec;
	return t.tv_sec;
}

static int task_stay(pp_task *task, const void *data, size_t size)
{
	(void)data;
	(void)size;
	while (!pp_task_cancelled(task))
		pause();
	return 0;
}

/* Ends in this way, no sooner than after so long, and without waiting for hours. */
static void check_takes(pp_executor *ex, const pp_task_options *options, pp_fn *fn, int kind, int64_t ms)
{
	int64_t start = now_ms();
	const pp_outcome *o;
	pp_future *future;

	APP_CHECK(pp_submit_with(ex, options, fn, NULL, 0, &future) == 0);
	APP_CHECK(pp_future_result(future, SUPPORT_GUARD_MS, &o) == 0);
	APP_CHECK(o->kind == kind && now_ms() - start >= ms);
	pp_future_free(future);
}

static int app_clock(void *unused)
{
	pp_task_options timeout = PP_TASK_OPTIONS_INIT, deadline = timeout, retry = timeout;
	pp_options options = PP_OPTIONS_INIT;
	pp_future *future;
	pp_executor *ex;
	int64_t start;

	(void)unused;
	options.max_workers = 2;
	options.grace_ms = PP_NONE;
	options.idle_timeout_ms = 30;
	timeout.timeout_ms = deadline.deadline_ms = 100;
	retry.retries = 2;
	retry.retry_on = PP_ON(PP_RAISED);
	retry.retry_delay_ms = 40;
	APP_CHECK(pp_executor_create(&ex, &options) == 0);
	for (int i = 0; i < 3; i++) {
		hostile_echo(ex, "abc", 3);
		check_takes(ex, &timeout, task_stay, PP_TIMED_OUT, 100);
		check_takes(ex, &deadline, task_stay, PP_TIMED_OUT, 100);
		check_takes(ex, &retry, task_raise, PP_RAISED, 90);
	}
	APP_CHECK(pp_submit(ex, task_stay, NULL, 0, &future) == 0);
	start = now_ms();
	APP_CHECK(pp_future_result(future, 100, NULL) == -ETIMEDOUT);
	APP_CHECK(pp_wait(&future, 1, PP_ALL_COMPLETED, 100) == 0);
	APP_CHECK(now_ms() - start >= 200);
	APP_CHECK(pp_executor_shutdown(ex, PP_SHUTDOWN_WAIT, 50) == -ETIMEDOUT);
	pp_future_kill(future);
	pp_future_free(future);
	APP_CHECK(pp_executor_shutdown(ex, PP_SHUTDOWN_WAIT, SUPPORT_GUARD_MS) == 0);
	pp_executor_free(ex);
	return 0;
}

START_TEST(wall_clock_jumps)
{
	int64_t start = now_ms();
	struct timespec t;

	wall_looks = support_counters(1);
	clock_gettime(CLOCK_REALTIME, &t);
	ck_assert_int_eq(*wall_looks, 1);
	app_run(app_clock, NULL);
	app_until_processes(0);
	ck_assert_int_eq(*wall_looks, 1);
	ck_assert_int_lt(now_ms() - start, SUPPORT_GUARD_MS);
	support_counters_free(wall_looks, 1);
	wall_looks = NULL;
	printf("# a wall clock that jumps: times hold, and no process of the pool has looked at it\n");
}
END_TEST

/* ---- forks of the application */

static atomic_bool echoes_end;
static atomic_long echoes;

static void *echo_on(void *ex)
{
	char bytes[3000];

	memset(bytes, 'e', sizeof bytes);
	for (; !echoes_end; echoes++)
		hostile_echo(ex, bytes, 1 + (size_t)echoes % sizeof bytes);
	return NULL;
}

static _Noreturn void be_a_child(pp_executor *ex)
{
	pp_future *future;
	int rc = pp_submit(ex, task_echo, "x", 1, &future);

	closefrom(3);
	_exit(rc == -ECHILD ? 0 : 1);
}

static int app_forks(void *count)
{
	pp_options options = PP_OPTIONS_INIT;
	pthread_t threads[2];
	pp_executor *ex;
	int status;

	options.max_workers = 2;
	APP_CHECK(pp_executor_create(&ex, &options) == 0);
	for (int i = 0; i < 2; i++)
		APP_CHECK(pthread_create(&threads[i], NULL, echo_on, ex) == 0);
	for (int i = 0; i < *(int *)count; i++) {
		pid_t child = fork();
		if (child == 0)
			be_a_child(ex);
		APP_CHECK(waitpid(child, &status, 0) == child && status == 0);
	}
	echoes_end = true;
	for (int i = 0; i < 2; i++)
		APP_CHECK(pthread_join(threads[i], NULL) == 0);
	APP_CHECK(echoes > 0);
	pp_executor_free(ex);
	return 0;
}

START_TEST(application_forks)
{
	int count = hostile_is_full() ? 5000 : 300;

	app_run(app_forks, &count);
	app_until_processes(0);
	printf("# %d forks of an application whose pool works, and their ends\n", count);
}
END_TEST

/* ---- frozen for long */

#define PLACES 4

struct frozen { pp_executor *ex; pp_future *future; pid_t pid; };

/* One of two workers, woken for the task, comes so far. */
static void freeze_at(struct frozen *frozen, uintptr_t place)
{
	frozen->ex = support_executor(2);
	frozen->pid = support_run_for_pid(frozen->ex);
	ck_assert(stepper_attach(frozen->pid));
	frozen->future = support_submit(frozen->ex, task_echo, "abc", 3);
	/* Somebody sleeps until it ends, or the worker has nobody to tell. */
	ck_assert(pp__slot_want(pp__cell_of(frozen->future), frozen->future->generation, PP__WANT_WAKE));
	ck_assert_int_eq(stepper_run_to(frozen->pid, place, 1, 0), STEPPER_OK);
}

/* It looks for a task; is about to claim it; has claimed it; has published, and told nobody. */
START_TEST(frozen_for_long)
{
	const uintptr_t places[PLACES] = { (uintptr_t)pp__look, (uintptr_t)pp__slot_claim, (uintptr_t)pp__slot_run,
	                                   (uintptr_t)pp__announce_end };
	int64_t end = now_ms() + (hostile_is_full() ? 10000 : 2000);
	struct frozen frozen[PLACES];
	long done = 0;

	for (int i = 0; i < PLACES; i++)
		freeze_at(&frozen[i], places[i]);
	for (int i = 0; now_ms() < end; i = (i + 1) % PLACES, done++) {
		pp_future *other = support_submit(frozen[i].ex, task_echo, "other", 5);
		support_assert_returned(other, "other", 5);
		pp_future_free(other);
	}
	for (int i = 0; i < PLACES; i++) {
		support_assert_returned(frozen[i].future, "abc", 3);     /* while it is frozen, or by another */
		pp_future_free(frozen[i].future);
		stepper_release(frozen[i].pid);
		pp_executor_free(frozen[i].ex);
	}
	printf("# workers frozen while searching, in claim, behind it and before their wake: %ld other tasks returned\n",
	       done);
}
END_TEST

void hostile_add_more(TCase *tcase)
{
	tcase_add_test(tcase, wall_clock_jumps);
	tcase_add_test(tcase, application_forks);
	tcase_add_test(tcase, frozen_for_long);
}
