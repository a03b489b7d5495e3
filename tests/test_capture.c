/* SPDX-License-Identifier: MIT */
/*
 * What a task printed before it took its worker with it, and only that task; and workers without our crash handler.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "plant.h"
#include "support.h"

static struct gate gate;

static pp_executor *capturing(uint64_t bytes)
{
	pp_options options = support_options(1);

	options.flags |= PP_CAPTURE;
	options.capture_bytes = bytes;
	return support_create(&options);
}

static const pp_postmortem *postmortem_of(pp_future *future)
{
	const pp_postmortem *p = NULL;

	ck_assert_int_eq(pp_future_postmortem(future, SUPPORT_GUARD_MS, &p), 0);
	ck_assert_ptr_nonnull(p->output);
	ck_assert_uint_eq(p->output[p->output_size], 0);
	return p;
}

static void assert_output(pp_future *future, const char *text)
{
	ck_assert_str_eq(postmortem_of(future)->output, text);
	pp_future_free(future);
}

/* Prints its argument by both ways, and ends as the first byte says. */
static int task_print(pp_task *task, const void *data, size_t size)
{
	const char *text = data;
	int which = PLANT_SEGV;

	printf("%.*s\n", (int)size - 1, text + 1);
	fprintf(stderr, "stderr\n");
	switch (*text) {
	case 'c': return task_plant(task, &which, sizeof which);
	case 'k': return kill(getpid(), SIGKILL);
	case 'e': printf("buffered"); exit(3);
	case 's': return system("echo from a shell") + kill(getpid(), SIGKILL);
	case 'g': return gate_pass(&gate);
	default: return 0;
	}
}

static pp_future *print(pp_executor *ex, const char *text)
{
	return support_submit(ex, task_print, text, strlen(text));
}

START_TEST(output_of_each_way_to_die)
{
	pp_executor *ex = capturing(0);

	assert_output(print(ex, "ccrash"), "crash\nstderr\n");
	assert_output(print(ex, "kkilled"), "killed\nstderr\n");
	assert_output(print(ex, "eexit"), "exit\nstderr\nbuffered");
	assert_output(print(ex, "sshell"), "shell\nstderr\nfrom a shell\n");
	pp_executor_free(ex);
}
END_TEST

/* From outside, by anybody: there are no registers, but what it printed. */
START_TEST(output_of_one_killed_from_outside)
{
	pp_executor *ex;
	pp_future *future;
	pid_t pid;

	gate_make(&gate);
	ex = capturing(0);
	future = print(ex, "gbefore the gate");
	gate_await(&gate, 1);
	ck_assert_int_eq(pp_executor_workers(ex, &pid, 1), 1);
	kill(pid, SIGKILL);
	support_assert_kind(future, PP_CRASHED);
	ck_assert_ptr_null(support_outcome(future)->registers);
	ck_assert_uint_eq(postmortem_of(future)->frame_count, 0);
	assert_output(future, "before the gate\nstderr\n");
	pp_executor_free(ex);
	gate_destroy(&gate);
}
END_TEST

START_TEST(output_is_of_this_task_only)
{
	pp_executor *ex = capturing(0);
	pp_future *before = print(ex, "-the one before");

	support_assert_kind(before, PP_RETURNED);
	pp_future_free(before);
	assert_output(print(ex, "cthis one"), "this one\nstderr\n");
	assert_output(print(ex, "kand this"), "and this\nstderr\n");
	pp_executor_free(ex);
}
END_TEST

START_TEST(output_keeps_the_last_bytes)
{
	pp_executor *ex = capturing(10);

	assert_output(print(ex, "ca long line"), "ne\nstderr\n");
	assert_output(print(ex, "ka long line"), "ne\nstderr\n");
	pp_executor_free(ex);
}
END_TEST

#define MANY (10 * 1024 * 1024 / 16)

static int task_print_much(pp_task *task, const void *data, size_t size)
{
	int which = PLANT_SEGV;

	(void)data;
	(void)size;
	setvbuf(stdout, NULL, _IOFBF, 65536);
	for (int i = 0; i < MANY; i++)
		printf("line %10d\n", i);
	fflush(stdout);
	if (gate_pass(&gate) != 0)
		return 1;
	return task_plant(task, &which, sizeof which);
}

/* It prints 10 MiB, of which hardly one has memory a moment later; the last 64 KiB are there. */
static bool is_trimmed(void *pid)
{
	char path[64];
	struct stat st;

	snprintf(path, sizeof path, "/proc/%d/fd/1", (int)*(pid_t *)pid);
	return stat(path, &st) == 0 && st.st_size == MANY * 16 && st.st_blocks * 512 <= 1024 * 1024;
}

START_TEST(output_of_ten_mib)
{
	char last[32];
	const pp_postmortem *p;
	pp_executor *ex;
	pp_future *future;
	pid_t pid;

	gate_make(&gate);
	ex = capturing(65536);
	future = support_submit(ex, task_print_much, NULL, 0);
	gate_await(&gate, 1);
	ck_assert_int_eq(pp_executor_workers(ex, &pid, 1), 1);
	support_until(is_trimmed, &pid, "the file is trimmed");
	gate_open(&gate, 1);
	p = postmortem_of(future);
	ck_assert_uint_eq(p->output_size, 65536);
	snprintf(last, sizeof last, "line %10d\n", MANY - 1);
	ck_assert_str_eq(p->output + 65536 - strlen(last), last);
	snprintf(last, sizeof last, "line %10d\n", MANY - 4096);
	ck_assert_int_eq(strncmp(p->output, last, strlen(last)), 0);
	ck_assert_uint_gt(p->frame_count, 0);
	pp_future_free(future);
	pp_executor_free(ex);
	gate_destroy(&gate);
}
END_TEST

START_TEST(output_is_not_captured_unasked)
{
	pp_executor *ex = support_executor(1);
	pp_future *future;
	int which = PLANT_SEGV;

	future = support_submit(ex, task_plant, &which, sizeof which);
	assert_output(future, "");
	pp_executor_free(ex);
}
END_TEST

/* A task closes what it does not know, and what it opens then has those numbers: the library cuts no file of its. */
static int task_take_numbers(pp_task *task, const void *data, size_t size)
{
	int fd;

	closefrom(3);
	fd = open((const char *)data, O_RDWR | O_APPEND);
	for (int i = 0; i < 64; i++)
		if (dup(fd) < 0)
			return 1;
	return pp_return(task, data, size);
}

START_TEST(output_file_of_the_task_is_not_cut)
{
	char path[] = "/tmp/procpool-capture-XXXXXX";
	int fd = mkstemp(path);
	pp_executor *ex = capturing(0);
	pp_future *future;
	struct stat st;

	ck_assert_int_eq(write(fd, "precious", 8), 8);
	future = support_submit(ex, task_take_numbers, path, sizeof path);
	support_assert_kind(future, PP_RETURNED);
	pp_future_free(future);
	assert_output(print(ex, "cafter that"), "after that\nstderr\n");
	ck_assert_int_eq(fstat(fd, &st), 0);
	ck_assert_int_eq(st.st_size, 8);
	close(fd);
	unlink(path);
	pp_executor_free(ex);
}
END_TEST

START_TEST(capture_options)
{
	pp_options options = support_options(1);
	pp_executor *ex;

	options.capture_bytes = 65537;
	ck_assert_int_eq(pp_executor_create(&ex, &options), -EINVAL);
	options.capture_bytes = 7;               /* the flag is not needed */
	ex = support_create(&options);
	assert_output(print(ex, "cx"), "stderr\n");
	pp_executor_free(ex);
}
END_TEST

static long *counters;

static void reporter(int signal)
{
	__atomic_add_fetch(counters, 1, __ATOMIC_SEQ_CST);
	sigaction(signal, &(struct sigaction){ .sa_handler = SIG_DFL }, NULL);
}

/* What the application had for SIGSEGV works in workers if asked for, and only then. */
static void assert_reporter(uint32_t flags, long calls)
{
	pp_options options = support_options(1);
	struct sigaction action = { .sa_handler = reporter }, before;
	int which = PLANT_SEGV;
	pp_executor *ex;
	pp_future *future;

	counters = support_counters(1);
	sigaction(SIGSEGV, &action, &before);
	options.flags |= flags;
	ex = support_create(&options);
	sigaction(SIGSEGV, &before, NULL);
	future = support_submit(ex, task_plant, &which, sizeof which);
	support_assert_kind(future, PP_CRASHED);
	ck_assert_int_eq(support_outcome(future)->signal, SIGSEGV);
	ck_assert_int_eq(!support_outcome(future)->registers, calls != 0);
	ck_assert_int_eq(WTERMSIG(postmortem_of(future)->wait_status), SIGSEGV);
	ck_assert_int_eq(*counters, calls);
	pp_future_free(future);
	pp_executor_free(ex);
	support_counters_free(counters, 1);
}

START_TEST(crash_reporter_of_the_application)
{
	assert_reporter(PP_NO_CRASH_HANDLER, 1);
	assert_reporter(0, 0);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("capture");
	TCase *output = support_tcase(suite, "output"), *handler = support_tcase(suite, "handler");

	tcase_add_test(output, output_of_each_way_to_die);
	tcase_add_test(output, output_of_one_killed_from_outside);
	tcase_add_test(output, output_is_of_this_task_only);
	tcase_add_test(output, output_keeps_the_last_bytes);
	tcase_add_test(output, output_of_ten_mib);
	tcase_add_test(output, output_is_not_captured_unasked);
	tcase_add_test(output, output_file_of_the_task_is_not_cut);
	tcase_add_test(output, capture_options);
	tcase_add_test(handler, crash_reporter_of_the_application);
	return suite;
}

SUPPORT_MAIN(make_suite)
