/* SPDX-License-Identifier: MIT */
/*
 * A hostile host, as far as the programs of make check do not have it already: pools made and freed by the hundred, in
 * threads that end, while SIGCHLD is ignored and another thread reaps whatever it can; a worker that is frozen at points
 * all the way from its wake to its next sleep; SIGSTOP and SIGCONT for any process at any time, the application included;
 * and an application that is killed at each of its system calls, and between them, from create to the end of shutdown.
 * In the short form each takes a bounded time, and what was tried is printed; CRASH_FULL tries everything.
 * hostile_more.c has the rest.
 *
 * Elsewhere: closefrom and files on the freed numbers (test_descriptors.c), workers and a supervisor that stay stopped
 * (test_stopped.c), a claim of a stopped worker (test_recovery.c), forks of the application (test_fork.c), wait(2) of the
 * application and init's place (test_process.c), the death of a busy parent (test_parent.c).
 */
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "../app.h"
#include "../stage.h"
#include "../stepper.h"
#include "../support_leftovers.h"
#include "hostile.h"
#include "pool.h"

#define POOLS_MS      8000
#define STORM_MS      2000
#define KILLS_MS      3600       /* of each kind of pool: INSTRUCTIONS first, then system calls until the time is over */
#define INSTRUCTIONS  100
#define MAX_BETWEEN   2000       /* instructions after a system call */
#define MAX_STOPS     100000

static unsigned seed;

bool hostile_is_full(void) { return getenv("CRASH_FULL") != NULL; }
static int64_t until_ms(int ms) { return hostile_is_full() ? INT64_MAX : now_ms() + ms; }

void hostile_echo(pp_executor *ex, const void *data, size_t size)
{
	const pp_outcome *o;
	pp_future *future;

	APP_CHECK(pp_submit(ex, task_echo, data, size, &future) == 0);
	APP_CHECK(pp_future_result(future, SUPPORT_GUARD_MS, &o) == 0);
	APP_CHECK(o->kind == PP_RETURNED && o->size == size && memcmp(o->data, data, size) == 0);
	pp_future_free(future);
}

/* ---- many pools, in threads that end, beside one that reaps all */

static atomic_bool reaper_ends;

static void *reap_all(void *unused)
{
	while (!reaper_ends)
		if (waitpid(-1, NULL, __WALL) < 0)
			poll(NULL, 0, 1);
	return unused;
}

static void *make_pool(void *ex)
{
	pp_options options = PP_OPTIONS_INIT;

	options.max_workers = 1;
	APP_CHECK(pp_executor_create(ex, &options) == 0);
	return NULL;
}

static int app_cycles(void *count)
{
	struct census before = leftovers_count();
	pthread_t reaper, maker;
	pp_executor *ex;

	signal(SIGCHLD, SIG_IGN);
	APP_CHECK(pthread_create(&reaper, NULL, reap_all, NULL) == 0);
	for (int i = 0; i < *(int *)count; i++) {
		APP_CHECK(pthread_create(&maker, NULL, make_pool, (void *)&ex) == 0);
		APP_CHECK(pthread_join(maker, NULL) == 0);
		hostile_echo(ex, &i, sizeof i);
		APP_CHECK(pp_executor_shutdown(ex, PP_SHUTDOWN_WAIT, SUPPORT_GUARD_MS) == 0);
		pp_executor_free(ex);
	}
	reaper_ends = true;
	APP_CHECK(pthread_join(reaper, NULL) == 0);
	APP_CHECK(leftovers_none(before));
	return 0;
}

START_TEST(many_pools)
{
	int count = hostile_is_full() ? 10000 : 500, step = 10, done = 0;        /* each application within the guard */
	int64_t deadline = until_ms(POOLS_MS);
	struct app app;
	char text[512];

	for (; done < count && now_ms() < deadline; done += step) {
		app_start(&app, app_cycles, &step);
		hostile_end_if_stuck(&app);
		int status = app_wait_report(&app, text, sizeof text);
		if (status)
			hostile_failed("status %#x after %d pools: %s", (unsigned)status, done, text);
		hostile_tell("pools", done + step, count);
	}
	app_until_processes(0);
	ck_assert_int_eq(hostile_failures(), 0);
	printf("# %d of %d pools made in threads that end, SIGCHLD ignored, beside a thread that reaps all\n", done, count);
}
END_TEST

/* ---- one worker frozen */

/* After n instructions from its wake on. Returns false when it sleeps again before that. */
static bool freeze_after(int n)
{
	pp_executor *ex = support_executor(2);
	pp_future *first = support_submit(ex, task_pid, NULL, 0), *others[20];
	bool asleep = false;
	pid_t pid;

	memcpy(&pid, support_outcome(first)->data, sizeof pid);
	pp_future_free(first);
	ck_assert(stepper_attach(pid));
	first = support_submit(ex, task_echo, "abc", 3);
	for (int i = 0; i < n && !asleep; i++)
		asleep = stepper_step(pid) != STEPPER_OK || (pp_future_done(first) && stepper_at_syscall(pid));
	for (int i = 0; i < 20; i++)
		others[i] = support_submit(ex, task_echo, &i, sizeof i);
	for (int i = 0; i < 20; i++) {
		support_assert_returned(others[i], &i, sizeof i);
		pp_future_free(others[i]);
	}
	stepper_release(pid);
	support_assert_returned(first, "abc", 3);
	pp_future_free(first);
	pp_executor_free(ex);
	return !asleep;
}

START_TEST(frozen_worker)
{
	int stride = hostile_is_full() ? 1 : 37, points = 0;

	while (freeze_after(points * stride))
		points++;
	ck_assert_int_gt(points, 8);
	printf("# a worker frozen at %d points from its wake on: the other does the work\n", points);
}
END_TEST

/* ---- stopped and continued at random */

struct storm { long *ends, *done; };

static int app_storm(void *storm_)
{
	struct storm *storm = storm_;
	pp_options options = PP_OPTIONS_INIT;
	static char bytes[5000];
	pp_executor *ex;

	options.max_workers = 3;
	APP_CHECK(pp_executor_create(&ex, &options) == 0);
	app_ready();
	while (!__atomic_load_n(storm->ends, __ATOMIC_SEQ_CST)) {
		hostile_echo(ex, bytes, 1 + (size_t)rand_r(&seed) % sizeof bytes);
		__atomic_add_fetch(storm->done, 1, __ATOMIC_SEQ_CST);
	}
	pp_executor_free(ex);
	return 0;
}

START_TEST(stops_at_random)
{
	struct storm storm = { support_counters(1), support_counters(1) };
	int64_t end = now_ms() + (hostile_is_full() ? 20 : 1) * STORM_MS;
	struct app app;
	pid_t pids[16];
	int stops = 0;

	app_start(&app, app_storm, &storm);
	app_await_ready(&app);
	for (; now_ms() < end; stops++) {
		struct timespec pause = { .tv_nsec = rand_r(&seed) % 3000000 };
		size_t n = support_pool_processes(pids, 16);
		ck_assert_uint_gt(n, 0);
		pid_t pid = pids[(size_t)rand_r(&seed) % n];
		if (stops % 200 == 100)
			pause.tv_sec = 1;        /* long enough for a claim to be taken back */
		kill(pid, SIGSTOP);
		nanosleep(&pause, NULL);
		kill(pid, SIGCONT);
	}
	*storm.ends = 1;
	app_finish(&app);
	app_until_processes(0);
	printf("# %d stops of workers, supervisor and application: %ld tasks returned\n", stops, *storm.done);
	ck_assert_int_gt(*storm.done, 0);
	support_counters_free(storm.ends, 1);
	support_counters_free(storm.done, 1);
}
END_TEST

/* ---- the application killed */

struct life { struct gate gate; unsigned flags; };

static int app_life(void *life_)
{
	struct life *life = life_;
	pp_options options = PP_OPTIONS_INIT;
	pp_executor *ex;

	options.max_workers = 2;
	options.flags = life->flags;
	gate_pass(&life->gate);
	APP_CHECK(pp_executor_create(&ex, &options) == 0);
	hostile_echo(ex, "abc", 3);
	APP_CHECK(pp_executor_shutdown(ex, PP_SHUTDOWN_WAIT, SUPPORT_GUARD_MS) == 0);
	pp_executor_free(ex);
	return 0;
}

/* To its next stop, by this request. false: it has ended. */
static bool go_on(pid_t pid, int request, int *status)
{
	int signal = 0;

	for (;;) {
		ck_assert_int_eq(ptrace((enum __ptrace_request)request, pid, NULL, (void *)(long)signal), 0);
		ck_assert_int_eq(waitpid(pid, status, __WALL), pid);
		if (!WIFSTOPPED(*status))
			return false;
		if (WSTOPSIG(*status) == (SIGTRAP | 0x80) || (WSTOPSIG(*status) == SIGTRAP && !(*status >> 16)))
			return true;
		signal = *status >> 16 ? 0 : WSTOPSIG(*status);
	}
}

/* Killed at its calls-th stop at a system call (each has two: before and after), and so many instructions later. Returns
 * the stops it came to: fewer when it ended first. */
static int kill_at(unsigned flags, int calls, int instructions)
{
	struct life life = { .flags = flags };
	int status = 0, done = 0;
	struct app app;

	gate_make(&life.gate);
	app_start(&app, app_life, &life);
	gate_await(&life.gate, 1);
	ck_assert_int_eq(ptrace(PTRACE_SEIZE, app.pid, NULL, (void *)(long)PTRACE_O_TRACESYSGOOD), 0);
	ck_assert_int_eq(ptrace(PTRACE_INTERRUPT, app.pid, NULL, NULL), 0);
	ck_assert_int_eq(waitpid(app.pid, &status, __WALL), app.pid);
	gate_open(&life.gate, 1);
	while (done < calls && go_on(app.pid, PTRACE_SYSCALL, &status))
		done++;
	for (int i = 0; i < instructions && WIFSTOPPED(status); i++)
		go_on(app.pid, PTRACE_SINGLESTEP, &status);
	if (WIFSTOPPED(status)) {
		kill(app.pid, SIGKILL);
		ck_assert_int_eq(waitpid(app.pid, &status, __WALL), app.pid);
		status = 0;
	}
	close(app.reports);
	if (status || !hostile_all_go())
		hostile_failed("flags %#x, killed at stop %d and %d instructions: status %#x", flags, calls, instructions,
		               (unsigned)status);
	gate_destroy(&life.gate);
	return done;
}

/* Tracer and tracee take turns at each step: on two CPUs each turn waits for the other to wake up. */
static void stay_on_this_cpu(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(sched_getcpu(), &set);
	sched_setaffinity(0, sizeof set, &set);
}

/* How many instructions behind a system call: few more often than many. */
static int draw_distance(void)
{
	return 1 + rand_r(&seed) % (1 + rand_r(&seed) % (1 + rand_r(&seed) % MAX_BETWEEN));
}

static void shuffle(int *list, int n)
{
	for (int i = n; i > 1; i--) {
		int other = rand_r(&seed) % i, was = list[i - 1];
		list[i - 1] = list[other];
		list[other] = was;
	}
}

START_TEST(application_killed)
{
	static const unsigned flags[] = { 0, PP_MEMFD_ONLY, PP_SELF_DISPATCH };
	int files = leftovers_count().files, stops, tried = 0, between = 0;
	int64_t deadline;
	int *order;

	stay_on_this_cpu();
	stops = kill_at(flags[_i], MAX_STOPS, 0);
	ck_assert(stops > 20 && stops < MAX_STOPS);
	order = malloc((size_t)stops * sizeof *order);
	ck_assert_ptr_nonnull(order);
	for (int i = 0; i < stops; i++)
		order[i] = i + 1;
	shuffle(order, stops);
	deadline = until_ms(4 * KILLS_MS);               /* on a slow machine */
	for (; between < INSTRUCTIONS && now_ms() < deadline; between++)
		kill_at(flags[_i], 1 + rand_r(&seed) % stops, draw_distance());
	deadline = until_ms(KILLS_MS);
	for (; tried < stops && now_ms() < deadline; tried++) {
		kill_at(flags[_i], order[tried], 0);
		hostile_tell("system calls", tried + 1, stops);
	}
	free(order);
	ck_assert_int_eq(hostile_failures(), 0);
	ck_assert_int_le(leftovers_count().files, files);
	printf("# the application killed at %d of %d stops at system calls, and at %d instructions between: nothing left\n",
	       tried, stops, between);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("hostile");
	TCase *tcase = support_tcase(suite, "hostile");

	seed = getenv("CRASH_SEED") ? (unsigned)strtoul(getenv("CRASH_SEED"), NULL, 0) : (unsigned)now_ms();
	hostile_begin(seed);
	setvbuf(stdout, NULL, _IOLBF, 0);
	tcase_set_timeout(tcase, hostile_is_full() ? 36000 : 120);
	if (!app_tests_can_run() || !stepper_allowed()) {
		support_skip("all of them", "needs Check's fork mode, and ptrace");
		return suite;
	}
	tcase_add_test(tcase, many_pools);
	tcase_add_test(tcase, frozen_worker);
	tcase_add_test(tcase, stops_at_random);
	tcase_add_loop_test(tcase, application_killed, 0, 3);
	hostile_add_more(tcase);
	return suite;
}

SUPPORT_MAIN(make_suite)
