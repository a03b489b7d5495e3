/* SPDX-License-Identifier: MIT */
/* What a running task says of its progress, and that nobody hears it of another task. */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
#include "stage.h"

/* Says 1 of 4, arrives at the gate, says 2 of 4, and so on. */
static int task_steps(pp_task *task, const void *data, size_t size)
{
	static const char *const texts[] = { "first", NULL, "third",
		"a text of more than sixty-three bytes, of which the end is cut off, like this" };
	struct gate gate;

	memcpy(&gate, data, size);
	for (uint64_t i = 0; i < 4; i++)
		if (pp_task_progress(task, i + 1, 4, texts[i]) || gate_pass(&gate))
			return 1;
	return pp_task_progress(NULL, 0, 0, NULL) != -EINVAL;
}

static void assert_progress(pp_future *future, uint64_t done, const char *text)
{
	char buffer[100] = "x";
	uint64_t at = 99, total = 99;

	ck_assert_int_eq(pp_future_progress(future, &at, &total, buffer, sizeof buffer), 1);
	ck_assert_uint_eq(at, done);
	ck_assert_uint_eq(total, 4);
	ck_assert_str_eq(buffer, text);
}

static void assert_none(pp_future *future)
{
	char buffer[8] = "x";
	uint64_t at = 99, total = 99;

	ck_assert_int_eq(pp_future_progress(future, &at, &total, buffer, sizeof buffer), 0);
	ck_assert_uint_eq(at + total, 0);
	ck_assert_str_eq(buffer, "");
}

START_TEST(progress_steps)
{
	struct gate gate;
	pp_executor *ex;
	pp_future *future;

	gate_make(&gate);
	ex = support_executor(1);
	future = support_submit(ex, task_steps, &gate, sizeof gate);
	gate_await(&gate, 1);
	assert_progress(future, 1, "first");
	gate_open(&gate, 1);
	gate_await(&gate, 1);
	assert_progress(future, 2, "");
	gate_open(&gate, 1);
	gate_await(&gate, 1);
	assert_progress(future, 3, "third");
	gate_open(&gate, 1);
	gate_await(&gate, 1);
	assert_progress(future, 4, "a text of more than sixty-three bytes, of which the end is cut ");
	gate_open(&gate, 1);
	support_assert_returned(future, NULL, 0);
	assert_none(future);
	pp_future_free(future);
	pp_executor_free(ex);
	gate_destroy(&gate);
}
END_TEST

/* The record stays in the worker's line: it is not the next task's, nor that of the slot's next future. */
START_TEST(progress_is_not_another_tasks)
{
	struct gate gate;
	pp_executor *ex;
	pp_future *future, *pending;

	gate_make(&gate);
	ex = support_executor(1);
	future = support_submit(ex, task_steps, &gate, sizeof gate);
	gate_open(&gate, 4);
	support_assert_returned(future, NULL, 0);
	pp_future_free(future);
	gate_await(&gate, 4);
	for (int i = 0; i < 3; i++) {
		future = support_submit(ex, task_gate, &gate, sizeof gate);
		pending = support_submit(ex, task_nothing, NULL, 0);
		gate_await(&gate, 1);
		assert_none(future);
		assert_none(pending);
		gate_open(&gate, 1);
		support_assert_kind(future, PP_RETURNED);
		pp_future_free(future);
		pp_future_free(pending);
	}
	pp_executor_free(ex);
	gate_destroy(&gate);
}
END_TEST

/* All fields of one saying are the same number. */
static int task_floods(pp_task *task, const void *data, size_t size)
{
	char text[32];

	(void)data;
	(void)size;
	for (uint64_t i = 1;; i++) {
		memset(text, 'a' + (int)(i % 26), sizeof text - 1);
		text[sizeof text - 1] = 0;
		pp_task_progress(task, i, i, text);
	}
	return 0;
}

START_TEST(progress_is_never_torn)
{
	pp_executor *ex = support_executor(1);
	pp_future *future = support_submit(ex, task_floods, NULL, 0);
	uint64_t done, total, last = 0;
	char text[64];

	support_until_running(future);
	for (int seen = 0; seen < 2000; ) {
		if (pp_future_progress(future, &done, &total, text, sizeof text) != 1)
			continue;
		seen++;
		ck_assert_uint_eq(done, total);
		ck_assert_uint_ge(done, last);
		ck_assert_uint_eq(strlen(text), 31);
		for (int i = 0; i < 31; i++)
			ck_assert_int_eq(text[i], 'a' + (int)(done % 26));
		last = done;
	}
	ck_assert_int_eq(pp_future_kill(future), 0);
	support_assert_kind(future, PP_KILLED);
	assert_none(future);
	pp_future_free(future);
	/* Killed in the middle of saying something, it leaves nothing that the next could not use. */
	future = support_submit(ex, task_floods, NULL, 0);
	while (pp_future_progress(future, &done, NULL, NULL, 0) != 1)
		usleep(1000);
	pp_future_kill(future);
	support_assert_kind(future, PP_KILLED);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

static int item_says(pp_task *task, const void *data, size_t size)
{
	if (pp_task_progress(task, 1, 2, "an item"))
		return 1;
	return pp_return(task, data, size);
}

START_TEST(progress_of_items_is_unheard)
{
	pp_executor *ex = support_executor(2);
	int in[100], out[100] = { 0 };

	for (int i = 0; i < 100; i++)
		in[i] = i;
	ck_assert_int_eq(pp_map_array(ex, item_says, in, sizeof *in, out, sizeof *out, 100, NULL), 0);
	ck_assert(memcmp(in, out, sizeof in) == 0);
	pp_executor_free(ex);
}
END_TEST

START_TEST(progress_misused)
{
	struct stage stage;
	char small[4];
	pid_t child;
	int status;

	stage_make(&stage, 0);
	ck_assert_int_eq(pp_future_progress(NULL, NULL, NULL, NULL, 0), -EINVAL);
	ck_assert_int_eq(pp_future_progress(stage.running, NULL, NULL, NULL, 1), -EINVAL);
	ck_assert_int_eq(pp_future_progress(stage.running, NULL, NULL, small, sizeof small), 0);
	ck_assert_int_eq(pp_future_progress(stage.running, NULL, NULL, NULL, 0), 0);
	child = fork();
	if (child == 0)
		_exit(pp_future_progress(stage.running, NULL, NULL, NULL, 0) == -ECHILD ? 0 : 1);
	ck_assert_int_eq(waitpid(child, &status, 0), child);
	ck_assert_int_eq(status, 0);
	stage_free(&stage);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("progress");
	TCase *progress = support_tcase(suite, "progress");

	tcase_add_test(progress, progress_steps);
	tcase_add_test(progress, progress_is_not_another_tasks);
	tcase_add_test(progress, progress_is_never_torn);
	tcase_add_test(progress, progress_of_items_is_unheard);
	tcase_add_test(progress, progress_misused);
	return suite;
}

SUPPORT_MAIN(make_suite)
