/* SPDX-License-Identifier: MIT */
/* A window: a way of a process through its code that is tried with a death at each point of it. */
#ifndef TESTS_CRASH_KILLS_H
#define TESTS_CRASH_KILLS_H

#include "trace.h"

struct window {
	const char *name;
	/* Brings the yard to the window's start and returns the process, stopped; it has set *entry (PP__NO_SLOT: none). */
	pid_t (*begin)(struct yard *yard, const struct window *window, uint32_t *entry);
	/* After the death: what has to come of everything. */
	void (*end)(struct yard *yard, const struct window *window, uint32_t entry);
	uintptr_t stop;          /* where the window ends; 0: with the process */
	unsigned seats;
	enum job_kind job;
	pp_task_options task;    /* of the first job; size 0: none */
	int64_t  grace_ms;       /* 0: none */
	int64_t  idle_ms;
	pp_fn    *initializer;
	uint32_t size;
	unsigned jobs;           /* at the window's start */
	uint64_t max_tasks;
	bool     fresh;          /* each trial in a pool of its own, */
	bool     start_all;      /* whose workers are there from the start; others always have them */
	unsigned own, others;    /* points in the short form; UINT_MAX: all */
};

static inline const pp_task_options *window_task(const struct window *window)
{
	return window->task.size ? &window->task : NULL;
}

extern const struct window worker_windows[], supervisor_windows[];
extern const unsigned worker_window_count, supervisor_window_count;

#endif
