/* SPDX-License-Identifier: MIT */
/* Section 1 of the contract: how a task says what became of it. What else an outcome tells is in test_outcome.c. */
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "support.h"

static pp_executor *ex;

static void set_up(void)
{
	ex = support_executor(1);
}

static void tear_down(void)
{
	pp_executor_free(ex);
}

static void assert_raised(const pp_outcome *outcome, int code, const char *message)
{
	ck_assert_int_eq(outcome->kind, PP_RAISED);
	ck_assert_int_eq(outcome->code, code);
	ck_assert_str_eq(outcome->message, message);
}

static void assert_raises(pp_fn *fn, const void *data, size_t size, int code, const char *message)
{
	pp_future *future = support_submit(ex, fn, data, size);
	const pp_outcome *outcome = support_outcome(future);

	assert_raised(outcome, code, message);
	ck_assert_uint_eq(outcome->size, 0);
	ck_assert_ptr_nonnull(outcome->data);
	pp_future_free(future);
}

static void assert_returns(pp_fn *fn, const void *data, size_t size)
{
	pp_future *future = support_submit(ex, fn, NULL, 0);

	support_assert_returned(future, data, size);
	ck_assert_int_eq(support_outcome(future)->code, 0);
	pp_future_free(future);
}

static int task_return_code(pp_task *task, const void *data, size_t size)
{
	int code;

	pp_return(task, "dropped", 7);
	memcpy(&code, data, size);
	return code;
}

START_TEST(return_nonzero)
{
	static const int codes[] = { 1, -1, 7, -EINVAL, 255, 256, 65536, INT32_MAX, INT32_MIN };

	for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
		assert_raises(task_return_code, &codes[i], sizeof codes[i], codes[i], "");
}
END_TEST

static int task_raise_zero(pp_task *task, const void *data, size_t size)
{
	(void)data;
	(void)size;
	return pp_raise(task, 0, "zero");
}

static int task_raise_zero_tells(pp_task *task, const void *data, size_t size)
{
	int code = pp_raise(task, 0, "a first one");

	(void)data;
	(void)size;
	return pp_raise(task, code == PP_ERAISED ? 1 : 2, NULL);
}

START_TEST(raise_code_zero)
{
	assert_raises(task_raise_zero, NULL, 0, PP_ERAISED, "zero");
	assert_raises(task_raise_zero_tells, NULL, 0, 1, "");
}
END_TEST

static int task_raise_return_zero(pp_task *task, const void *data, size_t size)
{
	(void)data;
	(void)size;
	pp_raise(task, 5, "still raised");
	return 0;
}

static int task_raise_zero_return_zero(pp_task *task, const void *data, size_t size)
{
	task_raise_zero(task, data, size);
	return 0;
}

START_TEST(raise_then_return_zero)
{
	assert_raises(task_raise_return_zero, NULL, 0, 5, "still raised");
	assert_raises(task_raise_zero_return_zero, NULL, 0, PP_ERAISED, "zero");
}
END_TEST

static int task_return_twice(pp_task *task, const void *data, size_t size)
{
	(void)data;
	(void)size;
	pp_return(task, "the first, and the longer one", 29);
	return pp_return(task, "second", 6);
}

/* Through all the places where results are kept, down to none. */
static int task_return_shrinking(pp_task *task, const void *data, size_t size)
{
	static const char bytes[1 << 20];

	(void)data;
	(void)size;
	pp_return(task, bytes, sizeof bytes);
	pp_return(task, bytes, 500);
	pp_return(task, bytes, 100);
	pp_return(task, bytes, 1);
	return pp_return(task, NULL, 0);
}

static int task_return_growing(pp_task *task, const void *data, size_t size)
{
	static char bytes[300000];

	memset(bytes, 'g', sizeof bytes);
	for (size_t n = 1; n <= sizeof bytes; n *= 2)
		pp_return(task, bytes, n);
	(void)data;
	(void)size;
	return pp_return(task, bytes, sizeof bytes);
}

START_TEST(return_twice)
{
	static char grown[300000];

	memset(grown, 'g', sizeof grown);
	assert_returns(task_return_twice, "second", 6);
	assert_returns(task_return_shrinking, NULL, 0);
	assert_returns(task_return_growing, grown, sizeof grown);
}
END_TEST

START_TEST(return_nothing)
{
	assert_returns(task_nothing, NULL, 0);
}
END_TEST

static int task_return_too_large(pp_task *task, const void *data, size_t size)
{
	int rc;

	(void)size;
	rc = pp_return(task, data, (size_t)1 << 60);
	return rc == -ENOMEM ? 0 : 1;
}

static int task_return_too_large_first(pp_task *task, const void *data, size_t size)
{
	pp_return(task, data, (size_t)1 << 60);
	return pp_return(task, data, size);
}

static int task_return_too_large_last(pp_task *task, const void *data, size_t size)
{
	pp_return(task, data, size);
	pp_return(task, data, SIZE_MAX);
	return 0;
}

static int task_return_too_large_code(pp_task *task, const void *data, size_t size)
{
	(void)size;
	pp_return(task, data, SIZE_MAX / 2);
	return 3;
}

/* A result that could not be stored is never taken for one that was empty, whatever the task thinks of it. */
START_TEST(return_too_large_ignored)
{
	assert_raises(task_return_too_large, "x", 1, -ENOMEM, "");
	assert_raises(task_return_too_large_first, "x", 1, -ENOMEM, "");
	assert_raises(task_return_too_large_last, "x", 1, -ENOMEM, "");
	assert_raises(task_return_too_large_code, "x", 1, -ENOMEM, "");
}
END_TEST

static int task_return_null(pp_task *task, const void *data, size_t size)
{
	(void)data;
	(void)size;
	return pp_return(task, NULL, 5) == -EINVAL ? 0 : 1;
}

static int task_return_null_zero(pp_task *task, const void *data, size_t size)
{
	(void)data;
	(void)size;
	pp_return(task, "before", 6);
	return pp_return(task, NULL, 0);
}

START_TEST(return_null_size)
{
	assert_raises(task_return_null, NULL, 0, -EINVAL, "");
	assert_returns(task_return_null_zero, NULL, 0);
}
END_TEST

static int task_raise_twice(pp_task *task, const void *data, size_t size)
{
	(void)data;
	(void)size;
	pp_raise_data(task, 1, "detail", 6, "the first one, which is longer");
	return pp_raise(task, 2, "second");
}

START_TEST(raise_last_wins)
{
	assert_raises(task_raise_twice, NULL, 0, 2, "second");
}
END_TEST

static int task_return_then_raise(pp_task *task, const void *data, size_t size)
{
	(void)data;
	(void)size;
	pp_return(task, "a result", 8);
	return pp_raise(task, 6, "no result");
}

static int task_raise_then_return(pp_task *task, const void *data, size_t size)
{
	(void)data;
	(void)size;
	pp_raise(task, 6, "no result");
	return pp_return(task, "a result", 8);
}

START_TEST(raise_drops_result)
{
	assert_raises(task_return_then_raise, NULL, 0, 6, "no result");
	assert_raises(task_raise_then_return, NULL, 0, 6, "no result");
}
END_TEST

static int task_raise_text(pp_task *task, const void *data, size_t size)
{
	return pp_raise(task, 9, "%.*s", (int)size, (const char *)data);
}

START_TEST(raise_message_length)
{
	static const size_t lengths[] = { 0, 1, 11, 12, 50, 100, 200, 1022, 1023, 1024, 5000 };

	for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
		char sent[5001] = "", kept[1024] = "";
		memset(sent, 'm', lengths[i]);
		memcpy(kept, sent, sizeof kept - 1);
		assert_raises(task_raise_text, sent, lengths[i], 9, kept);
	}
}
END_TEST

static int raise_through_v(pp_task *task, int code, const char *format, ...)
{
	va_list list;

	va_start(list, format);
	code = pp_raisev(task, code, format, list);
	va_end(list);
	return code;
}

static int task_raisev(pp_task *task, const void *data, size_t size)
{
	(void)data;
	(void)size;
	return raise_through_v(task, 11, "%s %d %.2f", "formatted", 42, 1.5);
}

START_TEST(raise_formats)
{
	assert_raises(task_raisev, NULL, 0, 11, "formatted 42 1.50");
}
END_TEST

static int task_raise_detail(pp_task *task, const void *data, size_t size)
{
	return pp_raise_data(task, 13, size ? data : NULL, size, "%zu", size);
}

static int task_raise_detail_silent(pp_task *task, const void *data, size_t size)
{
	return pp_raise_data(task, 13, data, size, NULL);
}

START_TEST(raise_data)
{
	static const size_t sizes[] = { 0, 1, 7, 8, 9, 40, 48, 49, 100, 500, 5000, 300000 };
	static unsigned char sent[300000];

	for (size_t i = 0; i < sizeof sent; i++)
		sent[i] = (unsigned char)(i * 31 + i / 251);
	for (size_t i = 0; i < 2 * sizeof sizes / sizeof *sizes; i++) {
		size_t size = sizes[i / 2];
		pp_fn *fn = i % 2 ? task_raise_detail : task_raise_detail_silent;
		pp_future *future = support_submit(ex, fn, sent, size);
		const pp_outcome *outcome = support_outcome(future);
		char text[32] = "";
		if (i % 2)
			snprintf(text, sizeof text, "%zu", size);
		assert_raised(outcome, 13, text);
		ck_assert_uint_eq(outcome->size, size);
		ck_assert_ptr_nonnull(outcome->data);
		ck_assert_uint_eq((uintptr_t)outcome->data % 8, 0);
		ck_assert(memcmp(outcome->data, sent, size) == 0);
		pp_future_free(future);
	}
}
END_TEST

static int task_raise_huge_detail(pp_task *task, const void *data, size_t size)
{
	(void)size;
	return pp_raise_data(task, 17, data, (size_t)1 << 60, "too much to say");
}

/* Its detail cannot be stored; the error is still the task's own. */
START_TEST(raise_data_too_large)
{
	pp_future *future = support_submit(ex, task_raise_huge_detail, "x", 1);
	const pp_outcome *outcome = support_outcome(future);

	ck_assert_int_eq(outcome->kind, PP_RAISED);
	ck_assert_int_eq(outcome->code, 17);
	ck_assert_uint_eq(outcome->size, 0);
	pp_future_free(future);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("raise");
	TCase *returns = support_tcase(suite, "return"), *raises = support_tcase(suite, "raise");

	tcase_add_checked_fixture(returns, set_up, tear_down);
	tcase_add_checked_fixture(raises, set_up, tear_down);
	tcase_add_test(returns, return_nonzero);
	tcase_add_test(returns, return_twice);
	tcase_add_test(returns, return_nothing);
	tcase_add_test(returns, return_too_large_ignored);
	tcase_add_test(returns, return_null_size);
	tcase_add_test(raises, raise_code_zero);
	tcase_add_test(raises, raise_then_return_zero);
	tcase_add_test(raises, raise_last_wins);
	tcase_add_test(raises, raise_drops_result);
	tcase_add_test(raises, raise_message_length);
	tcase_add_test(raises, raise_formats);
	tcase_add_test(raises, raise_data);
	tcase_add_test(raises, raise_data_too_large);
	return suite;
}

SUPPORT_MAIN(make_suite)
