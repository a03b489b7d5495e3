/* SPDX-License-Identifier: MIT */
/*
 * White box: what the supervisor makes of deaths, with this process in its place: the workers are children of the test that
 * only end, and their lines say what they had done.
 */
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>
#include "segment.h"
#include "support.h"
#include "supervisor.h"

static struct pp__segment segment;
static struct pp__shared *shared = &segment.shared;
static struct pp__supervisor supervisor;

static pid_t make_child(void)
{
	pid_t pid = fork();

	ck_assert_int_ge(pid, 0);
	if (pid > 0)
		return pid;
	for (;;)
		pause();
}

/* A worker that has started so many tasks dies: killed from outside while it is live, or in good order as it leaves. */
static void bury_one(uint32_t entry, enum pp__phase phase, uint64_t tasks)
{
	struct pp__worker *line = shared->workers + entry;
	siginfo_t info;

	supervisor.children[entry] = (struct pp__child){ .pid = make_child() };
	atomic_store(&line->cur, PP__NO_SLOT);
	atomic_store(&line->phase, phase);
	atomic_store(&line->tasks, tasks);
	ck_assert_int_eq(kill(supervisor.children[entry].pid, SIGKILL), 0);
	ck_assert_int_eq(waitid(P_PID, (id_t)supervisor.children[entry].pid, &info, WEXITED | WNOWAIT), 0);
	pp__reap_all(&supervisor);
	ck_assert_int_eq(supervisor.children[entry].pid, 0);
}

/* With max_tasks_per_worker each worker leaves after its task, so it is never seen with one while it lives. */
START_TEST(leaver_ends_a_row_of_early_deaths)
{
	ck_assert_int_eq(pp__segment_create(&segment, PP__BACKING_MEMFD, 2), 0);
	supervisor = (struct pp__supervisor){ .shared = shared };
	shared->header->max_tasks = 1;
	for (int i = 0; i < 5; i++) {
		bury_one(0, PP__LIVE, 0);
		ck_assert_int_eq(supervisor.early_deaths, 1);
		bury_one(1, PP__LEAVING, 1);
		ck_assert_int_eq(supervisor.early_deaths, 0);
		ck_assert_int_eq(supervisor.next_start_ns, 0);
	}
	bury_one(0, PP__LIVE, 0);
	bury_one(1, PP__LIVE, 0);
	ck_assert_int_eq(supervisor.early_deaths, 2);
	ck_assert_int_gt(supervisor.next_start_ns, 0);
	pp__segment_destroy(&segment);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("burial");

	tcase_add_test(support_tcase(suite, "burial"), leaver_ends_a_row_of_early_deaths);
	return suite;
}

SUPPORT_MAIN(make_suite)
