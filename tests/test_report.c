/* SPDX-License-Identifier: MIT */
/*
 * What the outcome of a crash says by itself, whenever it is looked at: signal and code in words, the fault address, the
 * instruction, the registers, the thread. Backtraces and all that needs the worker's end are in test_postmortem.c.
 */
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "plant.h"
#include "support.h"

/* How the message of each planted death begins. */
static const struct { int which, signal; const char *begins; } words[] = {
	{ PLANT_SEGV, SIGSEGV, "SIGSEGV: address not mapped at 0x10" },
	{ PLANT_ABRT, SIGABRT, "SIGABRT: sent by the process itself (abort)" },
	{ PLANT_FPE, SIGFPE, "SIGFPE: integer divide by zero" },
	{ PLANT_BUS, SIGBUS, "SIGBUS: no memory behind this address at 0x" },
	{ PLANT_ILL, SIGILL, "SIGILL: illegal operand" },
	{ PLANT_STACK, SIGSEGV, "SIGSEGV: stack overflow at 0x" },
	{ PLANT_NULL_CALL, SIGSEGV, "SIGSEGV: address not mapped at 0x0" },
};
#define WORDS ((int)(sizeof words / sizeof *words))

static bool buried(void *future)
{
	const pp_postmortem *postmortem;

	return pp_future_postmortem(future, 0, &postmortem) == 0;
}

static void assert_registers(const pp_outcome *o)
{
	size_t names = 0;

	for (const char *at = PP_REGISTERS; *at; at += strcspn(at, " "), at += strspn(at, " "))
		names++;
	ck_assert_uint_eq(o->register_count, names);
	if (!names)
		return;
	ck_assert_ptr_nonnull(o->registers);
	ck_assert_uint_eq(o->registers[names - 1], o->instruction);
}

static void assert_told(const pp_outcome *o, int i)
{
	char text[400];

	ck_assert_int_eq(o->kind, PP_CRASHED);
	ck_assert_int_eq(o->signal, words[i].signal);
	ck_assert_msg(strncmp(o->message, words[i].begins, strlen(words[i].begins)) == 0, "%s", o->message);
	assert_registers(o);
	ck_assert_int_eq(o->thread, o->pid);
	ck_assert_int_gt(pp_outcome_describe(o, text, sizeof text), 0);
	ck_assert_msg(strstr(text, o->message) && strstr(text, "crashed: SIG"), "%s", text);
}

/* The handler has settled, and the worker may still be there. */
START_TEST(crash_in_words)
{
	pp_executor *ex = support_executor(1);
	pp_future *future = support_submit(ex, task_plant, &words[_i].which, sizeof words[_i].which);

	assert_told(support_outcome(future), _i);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

/* The same when the outcome is first looked at long after the worker's place has gone to others. */
START_TEST(crash_in_words_later)
{
	pp_executor *ex = support_executor(1);
	pp_future *future = support_submit(ex, task_plant, &words[_i].which, sizeof words[_i].which), *next;

	for (int i = 0; i < 3; i++) {
		next = support_submit(ex, task_plant, &words[i].which, sizeof words[i].which);
		support_assert_kind(next, PP_CRASHED);
		support_until(buried, next, "the next worker is buried");
		pp_future_free(next);
	}
	assert_told(support_outcome(future), _i);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

START_TEST(crash_in_words_after_the_executor)
{
	pp_executor *ex = support_executor(1);
	pp_future *future = support_submit(ex, task_plant, &words[_i].which, sizeof words[_i].which);

	pp_executor_free(ex);
	assert_told(support_outcome(future), _i);
	pp_future_free(future);
}
END_TEST

START_TEST(crash_in_thread_is_of_the_thread)
{
	int which = PLANT_SEGV;
	pp_executor *ex = support_executor(1);
	pp_future *future = support_submit(ex, task_plant_in_thread, &which, sizeof which);
	const pp_outcome *o = support_outcome(future);

	ck_assert_int_eq(o->kind, PP_CRASHED);
	ck_assert_int_gt(o->thread, 0);
	ck_assert_int_ne(o->thread, o->pid);
	assert_registers(o);
	pp_future_free(future);
	pp_executor_free(ex);
}
END_TEST

static void assert_sent(int signal, pp_fn *fn, const char *message)
{
	pp_executor *ex = support_executor(1);
	pp_future *future = support_submit(ex, fn, &signal, sizeof signal);
	const pp_outcome *o = support_outcome(future);

	ck_assert_int_eq(o->kind, PP_CRASHED);
	ck_assert_int_eq(o->signal, signal);
	ck_assert_str_eq(o->message, message);
	ck_assert_uint_eq(o->fault_address, 0);
	pp_future_free(future);
	pp_executor_free(ex);
}

/* A signal that somebody sent has no fault address, whatever its number. */
START_TEST(signal_that_was_sent)
{
	assert_sent(SIGTRAP, task_kill_itself, "SIGTRAP: sent by the process itself");
	assert_sent(SIGSYS, task_kill_itself, "SIGSYS: sent by the process itself");
	assert_sent(SIGABRT, task_kill_itself, "SIGABRT: sent by the process itself (abort)");
}
END_TEST

/* One that the worker cannot catch, or does not: what is known is the wait status. */
START_TEST(signal_that_is_not_caught)
{
	int signals[] = { SIGKILL, SIGTERM, SIGUSR1 };
	pp_executor *ex = support_executor(1);

	for (int i = 0; i < 3; i++) {
		pp_future *future = support_submit(ex, task_kill_itself, &signals[i], sizeof signals[i]);
		const pp_outcome *o = support_outcome(future);
		ck_assert_int_eq(o->kind, PP_CRASHED);
		ck_assert_int_eq(o->signal, signals[i]);
		ck_assert_msg(strncmp(o->message, "SIG", 3) == 0 && strstr(o->message, sigabbrev_np(o->signal)), "%s", o->message);
		ck_assert_ptr_null(o->registers);
		ck_assert_uint_eq(o->register_count, 0);
		ck_assert_uint_eq(o->instruction, 0);
		ck_assert_int_eq(o->thread, 0);
		pp_future_free(future);
	}
	pp_executor_free(ex);
}
END_TEST

/* A slot that a crash has used is used again: nothing of the crash shows in what comes after it. */
START_TEST(slot_after_a_crash)
{
	int which = PLANT_SEGV;
	char big[200];
	pp_executor *ex = support_executor(1);

	memset(big, 'x', sizeof big);
	for (int i = 0; i < 20; i++) {
		pp_future *crash = support_submit(ex, task_plant, &which, sizeof which), *next;
		support_assert_kind(crash, PP_CRASHED);
		support_until(buried, crash, "the worker is buried");
		pp_future_free(crash);
		next = support_submit(ex, task_echo, big, sizeof big);
		support_assert_returned(next, big, sizeof big);
		ck_assert_ptr_null(support_outcome(next)->registers);
		ck_assert_int_eq(support_outcome(next)->thread, 0);
		pp_future_free(next);
	}
	pp_executor_free(ex);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("report");
	TCase *tell = support_tcase(suite, "words"), *others = support_tcase(suite, "others");

	tcase_add_loop_test(tell, crash_in_words, 0, WORDS);
	tcase_add_loop_test(tell, crash_in_words_later, 0, WORDS);
	tcase_add_loop_test(tell, crash_in_words_after_the_executor, 0, WORDS);
	tcase_add_test(others, crash_in_thread_is_of_the_thread);
	tcase_add_test(others, signal_that_was_sent);
	tcase_add_test(others, signal_that_is_not_caught);
	tcase_add_test(others, slot_after_a_crash);
	return suite;
}

SUPPORT_MAIN(make_suite)
