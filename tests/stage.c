/* SPDX-License-Identifier: MIT */
/* See stage.h. */
#include "stage.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

void stage_make(struct stage *stage, unsigned flags)
{
	pp_options options = support_options(1);

	options.flags = flags;
	gate_make(&stage->gate);
	stage->ex = support_create(&options);
	stage->running = support_submit(stage->ex, task_gate, &stage->gate, sizeof stage->gate);
	gate_await(&stage->gate, 1);
}

pp_future *stage_submit(struct stage *stage, const char *text)
{
	return support_submit(stage->ex, task_echo, text, strlen(text));
}

void stage_let_go(struct stage *stage)
{
	gate_open(&stage->gate, 1);
	support_assert_returned(stage->running, &stage->gate, sizeof stage->gate);
}

void stage_free(struct stage *stage)
{
	if (!pp_future_done(stage->running))
		gate_open(&stage->gate, 1);
	pp_future_free(stage->running);
	pp_executor_free(stage->ex);
	gate_destroy(&stage->gate);
}

static int task_crowd(pp_task *task, const void *data, size_t size)
{
	struct gate gate;
	char how;

	memcpy(&gate, data, size);
	if (gate_pass(&gate) || read(gate.pass[0], &how, 1) != 1)
		return pp_raise(task, EPIPE, "the gate is broken");
	switch (how) {
	case HOW_RAISE: return pp_raise(task, 7, "raised on purpose");
	case HOW_EXIT: _exit(3);
	case HOW_ABORT: abort();
	default: return pp_return(task, data, size);
	}
}

static void crowd_open(struct crowd *crowd, int n)
{
	*crowd = (struct crowd){ .n = n };
	for (int i = 0; i < n; i++)
		gate_make(&crowd->gates[i]);
	crowd->ex = support_executor(n);
}

static void crowd_fill(struct crowd *crowd)
{
	for (int i = 0; i < crowd->n; i++) {
		crowd->futures[i] = support_submit(crowd->ex, task_crowd, &crowd->gates[i], sizeof crowd->gates[i]);
		gate_await(&crowd->gates[i], 1);
	}
}

void crowd_make(struct crowd *crowd, int n)
{
	crowd_open(crowd, n);
	crowd_fill(crowd);
}

void crowd_make_done(struct crowd *crowd, int n)
{
	int how = DIE_ABRT;

	crowd_open(crowd, n);
	crowd->returned = support_submit(crowd->ex, task_nothing, NULL, 0);
	crowd->raised = support_submit(crowd->ex, task_raise, NULL, 0);
	crowd->crashed = support_submit(crowd->ex, task_die, &how, sizeof how);
	support_assert_kind(crowd->returned, PP_RETURNED);
	support_assert_kind(crowd->raised, PP_RAISED);
	support_assert_kind(crowd->crashed, PP_CRASHED);
	crowd_fill(crowd);
	crowd->cancelled = support_submit(crowd->ex, task_nothing, NULL, 0);
	ck_assert(pp_future_cancel(crowd->cancelled));
}

void crowd_end(struct crowd *crowd, int i, enum how how)
{
	char byte = (char)how;

	gate_open(&crowd->gates[i], 1);
	ck_assert_int_eq(write(crowd->gates[i].pass[1], &byte, 1), 1);
}

void crowd_free(struct crowd *crowd)
{
	for (int i = 0; i < crowd->n; i++)
		if (!pp_future_done(crowd->futures[i]))
			crowd_end(crowd, i, HOW_RETURN);
	pp_executor_free(crowd->ex);
	pp_future_free(crowd->returned);
	pp_future_free(crowd->raised);
	pp_future_free(crowd->crashed);
	pp_future_free(crowd->cancelled);
	for (int i = 0; i < crowd->n; i++) {
		pp_future_free(crowd->futures[i]);
		gate_destroy(&crowd->gates[i]);
	}
}

static void *sleeper_main(void *sleeper_)
{
	struct sleeper *sleeper = sleeper_;

	sleeper->tid = gettid();
	sleeper->fn(sleeper->context);
	sleeper->returned = true;
	return NULL;
}

static bool is_asleep(void *sleeper_)
{
	struct sleeper *sleeper = sleeper_;
	char path[64], text[256] = "", *at;
	FILE *file;

	if (sleeper->returned)
		return true;
	if (!sleeper->tid)
		return false;
	snprintf(path, sizeof path, "/proc/self/task/%d/stat", (int)sleeper->tid);
	file = fopen(path, "r");
	if (!file)
		return false;
	at = fgets(text, sizeof text, file) ? strrchr(text, ')') : NULL;
	fclose(file);
	return at && strncmp(at, ") S", 3) == 0;
}

void sleeper_start(struct sleeper *sleeper, sleeper_fn *fn, void *context)
{
	sleeper->fn = fn;
	sleeper->context = context;
	sleeper->tid = 0;
	sleeper->returned = false;
	ck_assert_int_eq(pthread_create(&sleeper->thread, NULL, sleeper_main, sleeper), 0);
	support_until(is_asleep, sleeper, "a thread that sleeps in its call");
}

bool sleeper_returned(struct sleeper *sleeper)
{
	return sleeper->returned;
}

static bool has_returned(void *sleeper)
{
	return sleeper_returned(sleeper);
}

void sleeper_join(struct sleeper *sleeper)
{
	support_until(has_returned, sleeper, "the return of a thread's call");
	ck_assert_int_eq(pthread_join(sleeper->thread, NULL), 0);
}

struct count { atomic_int *counter; int value; };

static bool is_count(void *count_)
{
	struct count *count = count_;

	return *count->counter == count->value;
}

void until_count(atomic_int *counter, int value, const char *what)
{
	struct count count = { counter, value };

	support_until(is_count, &count, what);
}

int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

void count_call(pp_future *future, void *counter)
{
	(void)future;
	++*(atomic_int *)counter;
}

bool fd_is_readable(pp_executor *ex, int64_t timeout_ms)
{
	struct pollfd fd = { .fd = pp_executor_fd(ex), .events = POLLIN };

	ck_assert_int_ge(fd.fd, 0);
	return poll(&fd, 1, (int)timeout_ms) == 1;
}

void dispatch_until(pp_executor *ex, int wanted)
{
	int ran;

	while (wanted > 0) {
		ck_assert_msg(fd_is_readable(ex, SUPPORT_GUARD_MS), "%d callbacks never came", wanted);
		ran = pp_executor_dispatch(ex, 0);
		ck_assert_int_ge(ran, 0);
		wanted -= ran;
	}
	ck_assert_int_eq(wanted, 0);
}
