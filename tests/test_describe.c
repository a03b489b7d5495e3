/* SPDX-License-Identifier: MIT */
/* Section 1 of the contract: outcomes, kinds, errors and the version in words. */
#include <errno.h>
#include <string.h>
#include "stage.h"

static void assert_one_line(const char *text)
{
	ck_assert_ptr_nonnull(text);
	ck_assert_ptr_null(strchr(text, '\n'));
}

static void assert_described(pp_future *future, const char *const *words)
{
	char text[512], small[512];
	const pp_outcome *o = support_outcome(future);
	int length = pp_outcome_describe(o, text, sizeof text);

	ck_assert_int_eq(length, (int)strlen(text));
	assert_one_line(text);
	for (; *words; words++)
		ck_assert_msg(strstr(text, *words) != NULL, "no \"%s\" in: %s", *words, text);
	for (size_t size = 0; size < 2 * (size_t)length && size < sizeof small; size++) {
		size_t kept = size > (size_t)length ? (size_t)length : size ? size - 1 : 0;
		memset(small, '#', sizeof small);
		if (pp_outcome_describe(o, size ? small : NULL, size) != length)
			ck_abort_msg("another length with a buffer of %zu", size);
		if ((size && (memcmp(small, text, kept) != 0 || small[kept] != 0)) || small[size] != '#')
			ck_abort_msg("a wrong text with a buffer of %zu", size);
	}
	ck_assert_int_eq(pp_outcome_describe(o, NULL, 1), -EINVAL);
	pp_future_free(future);
}

static int task_raise_lines(pp_task *task, const void *data, size_t size)
{
	(void)data;
	(void)size;
	return pp_raise(task, 5, "two\nlines");
}

#define WORDS(...) ((const char *const[]){ __VA_ARGS__, NULL })

START_TEST(outcome_describe)
{
	int segv = DIE_SEGV, exits = DIE_EXIT99;
	struct stage stage;
	pp_future *cancelled;

	stage_make(&stage, 0);
	cancelled = support_submit_named(stage.ex, "idle", task_nothing, NULL, 0);
	ck_assert(pp_future_cancel(cancelled));
	assert_described(cancelled, WORDS("idle", "cancelled"));
	stage_let_go(&stage);
	assert_described(support_submit_named(stage.ex, "good", task_echo, "12345", 5), WORDS("good", "returned", "5"));
	assert_described(support_submit_named(stage.ex, "bad", task_raise, NULL, 0),
	                 WORDS("bad", "raised", "7", "raised on purpose"));
	assert_described(support_submit(stage.ex, task_raise_lines, NULL, 0), WORDS("raised", "5", "two", "lines"));
	assert_described(support_submit_named(stage.ex, "ugly", task_die, &segv, sizeof segv),
	                 WORDS("ugly", "crashed", "SIGSEGV"));
	assert_described(support_submit_named(stage.ex, "gone", task_die, &exits, sizeof exits),
	                 WORDS("gone", "exited", "99"));
	stage_free(&stage);
	ck_assert_int_eq(pp_outcome_describe(NULL, NULL, 0), -EINVAL);
}
END_TEST

START_TEST(kind_name)
{
	static const struct { int kind; const char *name; } kinds[] = {
		{ PP_RETURNED, "returned" }, { PP_RAISED, "raised" }, { PP_CRASHED, "crashed" },
		{ PP_EXITED, "exited" }, { PP_KILLED, "killed" }, { PP_CANCELLED, "cancelled" }, { PP_BROKEN, "broken" }, { 0, "unknown" },
		{ PP_TIMED_OUT, "timed out" }, { PP_MEMORY, "memory" }, { 10, "unknown" }, { -1, "unknown" }, { INT32_MAX, "unknown" } };

	for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
		ck_assert_str_eq(pp_kind_name(kinds[i].kind), kinds[i].name);
}
END_TEST

/* Each error that the header names has a text of its own; nothing has none. */
START_TEST(strerror_texts)
{
	static const int errors[] = { 0, -EINVAL, -ENOMEM, -ENOSPC, -EFBIG, -EMFILE, -ENFILE, -EAGAIN, -ECANCELED,
	                              -EPIPE, -ECHILD, -ETIMEDOUT, -EDEADLK, -ENOTSUP, -ESHUTDOWN, -EFAULT,
	                              -EBADF, -ENOTCONN, -ENODATA, -EIO, -EBADMSG };
	const char *unknown = pp_strerror(-4000);

	ck_assert_ptr_nonnull(unknown);
	ck_assert_str_ne(unknown, "");
	ck_assert_ptr_nonnull(pp_strerror(INT32_MIN));
	ck_assert_ptr_nonnull(pp_strerror(INT32_MAX));
	for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
		ck_assert_ptr_nonnull(pp_strerror(errors[i]));
		ck_assert_str_ne(pp_strerror(errors[i]), unknown);
		ck_assert_ptr_eq(pp_strerror(errors[i]), pp_strerror(errors[i]));
		for (size_t j = 0; j < i; j++)
			ck_assert_str_ne(pp_strerror(errors[i]), pp_strerror(errors[j]));
	}
}
END_TEST

START_TEST(version)
{
	ck_assert_int_eq(pp_version(), PP_VERSION);
	ck_assert_int_eq(pp_version() >> 16, PP_VERSION_MAJOR);
	ck_assert_int_eq((pp_version() >> 8) & 0xff, PP_VERSION_MINOR);
	ck_assert_int_eq(pp_version() & 0xff, PP_VERSION_PATCH);
}
END_TEST

struct point { double x, y; };

static int task_mirror(pp_task *task, const void *data, size_t size)
{
	struct point point;

	if (size != sizeof point)
		return pp_return(task, PP_BYTES((int){ 7 }));
	memcpy(&point, data, size);
	point.x = -point.x;
	return pp_return(task, PP_BYTES(point));
}

START_TEST(values_of_one_type)
{
	struct point point = { 3, 4 }, back = { 0, 0 };
	const pp_outcome *outcome;
	pp_executor *ex = support_executor(1);
	pp_future *mirror, *seven;
	int value = 0;

	ck_assert_int_eq(pp_submit(ex, task_mirror, PP_BYTES(point), &mirror), 0);
	ck_assert_int_eq(pp_submit(ex, task_mirror, PP_BYTES((char){ 1 }), &seven), 0);
	ck_assert_int_eq(pp_future_result(mirror, SUPPORT_GUARD_MS, &outcome), 0);
	ck_assert_int_eq(pp_outcome_value(outcome, PP_BYTES(value)), -EINVAL);
	ck_assert_int_eq(value, 0);
	ck_assert_int_eq(pp_outcome_value(outcome, PP_BYTES(back)), 0);
	ck_assert(back.x == -3 && back.y == 4);
	ck_assert_int_eq(pp_outcome_value(outcome, NULL, sizeof back), -EINVAL);
	ck_assert_int_eq(pp_outcome_value(NULL, PP_BYTES(back)), -EINVAL);
	ck_assert_int_eq(pp_future_result(seven, SUPPORT_GUARD_MS, &outcome), 0);
	ck_assert_int_eq(pp_outcome_value(outcome, PP_BYTES(value)), 0);
	ck_assert_int_eq(value, 7);
	pp_future_free(mirror);
	pp_future_free(seven);
	pp_executor_free(ex);
}
END_TEST

/* Zero bytes are a size like any other, and what did not return has no value. */
START_TEST(no_value_of_other_kinds)
{
	static const pp_outcome raised = { .kind = PP_RAISED, .data = "", .size = 0 }, empty = { .kind = PP_RETURNED, .data = "" };
	char byte = 5;

	ck_assert_int_eq(pp_outcome_value(&raised, &byte, 0), -EINVAL);
	ck_assert_int_eq(pp_outcome_value(&empty, &byte, 1), -EINVAL);
	ck_assert_int_eq(pp_outcome_value(&empty, &byte, 0), 0);
	ck_assert_int_eq(byte, 5);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("describe");
	TCase *texts = support_tcase(suite, "texts"), *values = support_tcase(suite, "values");

	tcase_add_test(texts, outcome_describe);
	tcase_add_test(texts, kind_name);
	tcase_add_test(texts, strerror_texts);
	tcase_add_test(texts, version);
	tcase_add_test(values, values_of_one_type);
	tcase_add_test(values, no_value_of_other_kinds);
	return suite;
}

SUPPORT_MAIN(make_suite)
