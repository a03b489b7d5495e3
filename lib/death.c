/* SPDX-License-Identifier: MIT */
/*
 * The cause of a death as its caller sees it: signal and code in words, and the registers at that instant. All of it was
 * written by a worker that was dying of something, so it is read once, and never used but as numbers.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "report.h"

#define NEAR_BELOW 65536u        /* from the stack pointer down: a frame's start, a red zone, a push */
#define NEAR_ABOVE 4096u

struct reason { int signal, code; const char *text; };

/* By signal, 0: of any. Codes by number are those that older headers do not have. */
static const struct reason reasons[] = {
	{ SIGSEGV, SEGV_MAPERR, "address not mapped" },
	{ SIGSEGV, SEGV_ACCERR, "no permission for this access" },
	{ SIGSEGV, 3, "outside of the bounds that were set" },
	{ SIGSEGV, 4, "forbidden by a protection key" },
	{ SIGSEGV, 8, "memory tag mismatch, noticed later" },
	{ SIGSEGV, 9, "memory tag mismatch" },
	{ SIGSEGV, 10, "control flow violation" },
	{ SIGSEGV, SI_KERNEL, "general protection: an address that cannot be one, or an instruction that is not allowed" },
	{ SIGBUS, BUS_ADRALN, "misaligned address" },
	{ SIGBUS, BUS_ADRERR, "no memory behind this address" },
	{ SIGBUS, BUS_OBJERR, "hardware error of the object" },
	{ SIGBUS, 4, "memory error of the hardware, met" },
	{ SIGBUS, 5, "memory error of the hardware, found" },
	{ SIGILL, ILL_ILLOPC, "illegal opcode" },
	{ SIGILL, ILL_ILLOPN, "illegal operand" },
	{ SIGILL, ILL_ILLADR, "illegal addressing mode" },
	{ SIGILL, ILL_ILLTRP, "illegal trap" },
	{ SIGILL, ILL_PRVOPC, "privileged opcode" },
	{ SIGILL, ILL_PRVREG, "privileged register" },
	{ SIGILL, ILL_COPROC, "coprocessor error" },
	{ SIGILL, ILL_BADSTK, "internal stack error" },
	{ SIGFPE, FPE_INTDIV, "integer divide by zero" },
	{ SIGFPE, FPE_INTOVF, "integer overflow" },
	{ SIGFPE, FPE_FLTDIV, "floating-point divide by zero" },
	{ SIGFPE, FPE_FLTOVF, "floating-point overflow" },
	{ SIGFPE, FPE_FLTUND, "floating-point underflow" },
	{ SIGFPE, FPE_FLTRES, "inexact floating-point result" },
	{ SIGFPE, FPE_FLTINV, "invalid floating-point operation" },
	{ SIGFPE, FPE_FLTSUB, "subscript out of range" },
	{ SIGTRAP, TRAP_BRKPT, "breakpoint" },
	{ SIGTRAP, TRAP_TRACE, "trace trap" },
	{ SIGTRAP, SI_KERNEL, "breakpoint" },
	{ SIGSYS, 1, "system call forbidden by a filter" },
	{ SIGSYS, 2, "system call redirected" },
	{ 0, SI_KERNEL, "raised by the kernel" },
	{ 0, SI_TIMER, "sent by a timer" },
	{ 0, SI_MESGQ, "sent by a message queue" },
	{ 0, SI_ASYNCIO, "sent by asynchronous I/O" },
	{ 0, SI_SIGIO, "sent by I/O" },
};

static const char *reason_of(int signal, int code)
{
	for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
		if (reasons[i].code == code && (reasons[i].signal == signal || !reasons[i].signal))
			return reasons[i].text;
	return NULL;
}

/* Near the stack pointer there is always stack, unless it has come to its end. */
static bool is_stack_overflow(const pp_outcome *o)
{
#if PP__REGISTERS
	uint64_t sp = o->register_count ? o->registers[PP__REGISTER_SP] : 0, address = o->fault_address;

	return o->signal == SIGSEGV && (o->signal_code == SEGV_MAPERR || o->signal_code == SEGV_ACCERR) && sp > NEAR_BELOW
	       && address >= sp - NEAR_BELOW && address < sp + NEAR_ABOVE;
#else
	(void)o;
	return false;
#endif
}

/* One line; as snprintf. sender: the process that sent the signal, or 0. */
static void say_crash(const pp_outcome *o, pid_t sender, char *text, size_t size)
{
	const char *name = sigabbrev_np(o->signal), *words = reason_of(o->signal, o->signal_code);
	char number[32];

	if (!name) {
		snprintf(number, sizeof number, "RTMIN+%d", o->signal - SIGRTMIN);
		name = number;
	}
	if (is_stack_overflow(o))
		snprintf(text, size, "SIG%s: stack overflow at 0x%" PRIxPTR, name, o->fault_address);
	else if (words && (o->signal == SIGSEGV || o->signal == SIGBUS) && o->signal_code != SI_KERNEL)
		snprintf(text, size, "SIG%s: %s at 0x%" PRIxPTR, name, words, o->fault_address);
	else if (words)
		snprintf(text, size, "SIG%s: %s", name, words);
	else if (sender == o->pid && sender)
		snprintf(text, size, "SIG%s: sent by the process itself%s", name, o->signal == SIGABRT ? " (abort)" : "");
	else if (sender)
		snprintf(text, size, "SIG%s: sent by process %d", name, (int)sender);
	else if (o->signal_code)
		snprintf(text, size, "SIG%s: code %d", name, o->signal_code);
	else
		snprintf(text, size, "SIG%s: %s", name, sigdescr_np(o->signal) ? sigdescr_np(o->signal) : "unknown signal");
}

/* The worker's line has it until the incarnation is over; a look at that after the copy says whether it was this one's. */
static bool read_crash(const pp_future *future, uint64_t word, struct pp__crash *copy)
{
	const struct pp__shared *shared = &future->executor->segment.shared;
	uint32_t worker = pp__word_worker(word);
	const struct pp__worker *line = shared->workers + worker;
	uint64_t tag;

	if (worker >= shared->header->entries)
		return false;
	tag = atomic_load(&line->crash.tag);
	memcpy(copy, &line->crash, sizeof *copy);
	atomic_thread_fence(memory_order_acquire);
	return tag == pp__word_attempt(word)
	       && (atomic_load(&line->incarnation) & PP__INCARNATION_MASK) == pp__word_incarnation(word);
}

/* For good, once the incarnation is over. Memory that the supervisor had none for must not be touched. */
bool pp__death_read(const pp_future *future, uint64_t word, struct pp__death *copy)
{
	const struct pp__shared *shared = &future->executor->segment.shared;
	unsigned char *place = shared->extensions + (uint64_t)future->slot * PP__EXTENSION;
	int rc = pp__memory_commit_at(place, sizeof *copy);

	if (rc < 0 && rc != -EINVAL)
		return false;
	memcpy(copy, place, sizeof *copy);
	return copy->tag == pp__word_attempt(word);
}

struct pp__report *pp__report_make(const pp_future *future, uint64_t word)
{
	struct pp__report *report = calloc(1, sizeof *report);
	struct pp__death death;

	if (!report)
		return NULL;
	report->has_crash = read_crash(future, word, &report->crash);
	if (!report->has_crash && pp__death_read(future, word, &death) && death.crash.tag == pp__word_attempt(word)) {
		report->crash = death.crash;
		report->has_crash = true;
	}
	return report;
}

void pp__report_free(struct pp__report *report)
{
	if (report)
		pp__postmortem_free(report->postmortem);
	free(report);
}

static void give_registers(pp_outcome *o, const struct pp__crash *crash)
{
#if PP__REGISTERS
	o->registers = crash->registers;
	o->register_count = PP__REGISTERS;
	o->instruction = (uintptr_t)crash->registers[PP__REGISTER_PC];
#endif
	o->thread = crash->thread;
}

void pp__crash_describe(const pp_future *future, struct pp__box *box, uint64_t word)
{
	struct pp__report *report = pp__report_make(future, word);
	pid_t sender = 0;
	char text[256];

	box->report = report;
	if (report && report->has_crash) {
		give_registers(&box->outcome, &report->crash);
		sender = report->crash.sender;
	}
	say_crash(&box->outcome, sender, text, sizeof text);
	box->owned = strdup(text);
	box->outcome.message = box->owned ? box->owned : "";
}
