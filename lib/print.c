/* SPDX-License-Identifier: MIT */
/*
 * An outcome as text that a person can paste into a bug report: what the outcome says, and what the post-mortem has
 * by then. It waits for nothing. Bytes that a task has printed are shown so that no terminal takes them for orders.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/wait.h>
#include "pool.h"

#define UNKNOWN UINT64_MAX

static void print_head(const pp_outcome *o, FILE *to)
{
	fprintf(to, "task \"%s\" %s", o->task_name, pp_kind_name(o->kind));
	if (o->kind == PP_RETURNED)
		fprintf(to, " %zu bytes", o->size);
	else if (o->kind == PP_RAISED)
		fprintf(to, " %d", o->code);
	fprintf(to, "%s%s\n", *o->message ? ": " : "", o->message);
	if (o->kind == PP_RAISED && o->size)
		fprintf(to, "  detail        %zu bytes\n", o->size);
	if (o->pid)
		fprintf(to, "  worker        %d, pid %d, attempt %u\n", o->worker, (int)o->pid, o->attempt);
	if (o->thread)
		fprintf(to, "  thread        %d%s\n", (int)o->thread, o->thread == o->pid ? "" : ", not the one that ran the task");
	fprintf(to, "  queued        %.3f ms\n", (double)o->queued_ns / 1e6);
	if (o->pid)
		fprintf(to, "  ran           %.3f ms\n", (double)o->running_ns / 1e6);
}

static void print_registers(const pp_outcome *o, FILE *to)
{
	const char *name = PP_REGISTERS;

	if (o->fault_address)
		fprintf(to, "  fault address 0x%" PRIxPTR "\n", o->fault_address);
	if (o->instruction)
		fprintf(to, "  instruction   0x%" PRIxPTR "\n", o->instruction);
	for (unsigned i = 0; i < o->register_count && *name; i++) {
		int length = (int)strcspn(name, " ");
		fprintf(to, "%s%-4.*s%016" PRIx64, i % 4 ? "   " : i ? "\n                " : "  registers     ", length, name,
		        o->registers[i]);
		name += length + (name[length] == ' ');
	}
	if (o->register_count)
		fputc('\n', to);
}

static void print_frame(const pp_frame *frame, size_t i, FILE *to)
{
	fprintf(to, "  #%-3zu 0x%012" PRIxPTR " %s", i, frame->address, frame->function ? frame->function : "?");
	if (frame->file)
		fprintf(to, " at %s:%d", frame->file, frame->line);
	if (frame->module)
		fprintf(to, " (%s+0x%" PRIx64 ")", frame->module, frame->offset);
	fputc('\n', to);
}

/* Every frame of an endless recursion is the same: the first three of those, and how many more. */
static void print_frames(const pp_postmortem *p, FILE *to)
{
	size_t same = 0;

	fprintf(to, "backtrace%s%s%s\n", *p->frames_note ? " (" : "", p->frames_note, *p->frames_note ? ")" : "");
	for (size_t i = 0; i < p->frame_count; i++) {
		bool repeats = i && p->frames[i].address == p->frames[i - 1].address;
		bool ends = i + 1 == p->frame_count || p->frames[i + 1].address != p->frames[i].address;
		same = repeats ? same + 1 : 0;
		if (same < 3)
			print_frame(&p->frames[i], i, to);
		else if (ends)
			fprintf(to, "  ... the same %zu times more\n", same - 2);
	}
}

static void print_number(uint64_t number, double unit, const char *format, FILE *to)
{
	if (number != UNKNOWN)
		fprintf(to, format, (double)number / unit);
}

static void print_status(const pp_postmortem *p, FILE *to)
{
	if (p->wait_status != -1 && WIFEXITED(p->wait_status))
		fprintf(to, "worker process exited with status %d", WEXITSTATUS(p->wait_status));
	else if (p->wait_status != -1)
		fprintf(to, "worker process ended by signal %d, %s", WTERMSIG(p->wait_status),
		        p->core_dumped ? "core dumped" : "no core");
	print_number(p->cpu_ns, 1e6, ", CPU %.1f ms", to);
	print_number(p->peak_rss, 1024 * 1024, ", peak %.1f MiB", to);
	print_number(p->faults, 1, ", %.0f page faults", to);
	print_number(p->switches, 1, ", %.0f context switches", to);
	fputc('\n', to);
}

static void print_output(const pp_postmortem *p, FILE *to)
{
	bool at_start = true;

	if (!p->output_size)
		return;
	fprintf(to, "output (the last %zu bytes)\n", p->output_size);
	for (size_t i = 0; i < p->output_size; i++) {
		unsigned char c = (unsigned char)p->output[i];
		if (at_start)
			fputs("  | ", to);
		at_start = c == '\n';
		if (c == '\n' || c == '\t' || (c >= ' ' && c != 0x7f))
			fputc(c, to);
		else
			fprintf(to, "\\x%02x", c);
	}
	if (!at_start)
		fputc('\n', to);
}

/* From the last to the first. */
static void print_earlier(const pp_outcome *o, FILE *to)
{
	char text[256];

	for (o = o->earlier; o; o = o->earlier) {
		pp_outcome_describe(o, text, sizeof text);
		fprintf(to, "attempt before: %s\n", text);
	}
}

int pp_outcome_print(const pp_outcome *o, FILE *to)
{
	const pp_postmortem *p = NULL;
	int state;

	if (!pp__is_original_process())
		return -ECHILD;
	if (!o || !to)
		return -EINVAL;
	state = pp__cancel_hold();
	print_head(o, to);
	print_registers(o, to);
	if (o->library && pp_future_postmortem((pp_future *)(uintptr_t)o->library, 0, &p) == 0) {
		print_frames(p, to);
		print_status(p, to);
		print_output(p, to);
	}
	print_earlier(o, to);
	pp__cancel_restore(state);
	return ferror(to) ? -EIO : 0;
}
