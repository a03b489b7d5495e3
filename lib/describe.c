/* SPDX-License-Identifier: MIT */
/* Outcomes in words. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "procpool.h"
#include "sysdep.h"

const char *pp_kind_name(int kind)
{
	switch (kind) {
	case PP_RETURNED:  return "returned";
	case PP_RAISED:    return "raised";
	case PP_CRASHED:   return "crashed";
	case PP_EXITED:    return "exited";
	case PP_TIMED_OUT: return "timed out";
	case PP_KILLED:    return "killed";
	case PP_MEMORY:    return "memory";
	case PP_CANCELLED: return "cancelled";
	case PP_BROKEN:    return "broken";
	default:           return "unknown";
	}
}

static int describe_kind(const pp_outcome *o, char *text, size_t size)
{
	switch (o->kind) {
	case PP_RETURNED:
		return snprintf(text, size, "returned %zu bytes", o->size);
	case PP_RAISED:
		return snprintf(text, size, "raised %d%s%s", o->code, *o->message ? ": " : "", o->message);
	case PP_CRASHED:
		return snprintf(text, size, "crashed: %s", o->message);
	case PP_EXITED:
	case PP_CANCELLED:
	case PP_KILLED:
		return snprintf(text, size, "%s", o->message);
	default:
		return snprintf(text, size, "%s: %s", pp_kind_name(o->kind), o->message);
	}
}

/* A message of a task may have several lines; a description has one. */
static void one_line(char *text)
{
	for (; *text; text++)
		if (*text == '\n' || *text == '\r')
			*text = ' ';
}

int pp_outcome_value(const pp_outcome *outcome, void *object, size_t size)
{
	if (!pp__is_original_process())
		return -ECHILD;          /* data may stand in memory that a child does not have */
	if (!outcome || !object || outcome->kind != PP_RETURNED || outcome->size != size)
		return -EINVAL;
	memcpy(object, outcome->data, size);
	return 0;
}

int pp_outcome_describe(const pp_outcome *o, char *buffer, size_t size)
{
	char what[1200];
	const char *colon;

	if (!pp__is_original_process())
		return -ECHILD;
	if (!o || (!buffer && size))
		return -EINVAL;
	describe_kind(o, what, sizeof what);
	one_line(what);
	colon = *o->task_name ? ": " : "";
	if (!o->pid)
		return snprintf(buffer, size, "%s%s%s", o->task_name, colon, what);
	return snprintf(buffer, size, "%s%s%s (worker %d, pid %d, attempt %u, %.3f ms)", o->task_name, colon, what,
	                o->worker, (int)o->pid, o->attempt, (double)o->running_ns / 1e6);
}
