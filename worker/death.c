/* SPDX-License-Identifier: MIT */
/*
 * What a dying worker leaves for the report on its death. It runs in the crash handler, on its alternate stack, in a
 * process of which anything may be broken: no allocation, no locks, and nothing that a later step relies on.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <ucontext.h>
#include <unistd.h>
#include "chunk.h"
#include "slot.h"
#include "units.h"
#include "worker.h"

#define RED_ZONE 128u            /* below the stack pointer, in use all the same */

#if defined __x86_64__
static void read_registers(uint64_t *to, const mcontext_t *from)
{
	static const int order[PP__REGISTERS] = {
		REG_RAX, REG_RDX, REG_RCX, REG_RBX, REG_RSI, REG_RDI, REG_RBP, REG_RSP,
		REG_R8, REG_R9, REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15, REG_RIP
	};

	for (int i = 0; i < PP__REGISTERS; i++)
		to[i] = (uint64_t)from->gregs[order[i]];
}
#elif defined __aarch64__
static void read_registers(uint64_t *to, const mcontext_t *from)
{
	for (int i = 0; i < 8; i++)
		to[i] = from->regs[i];
	for (int i = 19; i <= 30; i++)
		to[8 + i - 19] = from->regs[i];
	to[PP__REGISTER_SP] = from->sp;
	to[PP__REGISTER_PC] = from->pc;
}
#endif

void pp__death_note(struct pp__crash *crash, uint64_t word, const siginfo_t *info, const void *context)
{
	crash->thread = (int32_t)syscall(SYS_gettid);
	crash->sender = info->si_code == SI_USER || info->si_code == SI_TKILL || info->si_code == SI_QUEUE
	                ? info->si_pid : 0;
#if PP__REGISTERS
	read_registers(crash->registers, &((const ucontext_t *)context)->uc_mcontext);
#else
	(void)context;
#endif
	atomic_store(&crash->tag, pp__word_attempt(word));
}

/* A page that is not there, as after a stack overflow, is an error here and no second crash. */
static bool copy(char *to, uint64_t from, size_t size)
{
	struct iovec here = { to, size }, there = { (void *)(uintptr_t)from, size };

	if (process_vm_readv(getpid(), &here, 1, &there, 1, 0) == (ssize_t)size)
		return true;
	if (errno != ENOSYS && errno != EPERM)
		return false;
	memcpy(to, (const void *)(uintptr_t)from, size); /* this may be the end, but the future is settled */
	return true;
}

/* Page by page; those at the start that are not there are passed. Returns how many bytes, the first of which is *base. */
static uint32_t copy_stack(char *to, uint64_t from, uint64_t size, uint64_t *base)
{
	uint32_t done = 0;

	while (size) {
		uint64_t step = PP__PAGE - from % PP__PAGE;
		step = step < size ? step : size;
		if (copy(to + done, from, step)) {
			*base = done ? *base : from;
			done += (uint32_t)step;
		} else if (done) {
			break;
		}
		from += step;
		size -= step;
	}
	return done;
}

/* After the future was settled, with room for what was printed, which the supervisor adds. Of the main thread's stack as much as the worker has made of it, most often a page. */
void pp__death_save_stack(struct pp__self *self, uint32_t slot, uint64_t word)
{
#if PP__REGISTERS
	const struct pp__shared *shared = self->shared;
	struct pp__stack *stack = &self->line->stack;
	struct pp__unit_cursor cursor = self->cursor;    /* the task's thread may be using its own */
	uint64_t from = self->line->crash.registers[PP__REGISTER_SP] - RED_ZONE, size = PP__STACK_MAX, base = 0;
	int64_t offset;

	if (shared->descs[slot].fn == pp__chunk_run)
		return;                  /* the slot's run has the results of other items */
	if (from < self->stack_top && self->stack_top - from < size)
		size = self->stack_top - from;
	offset = pp__units_claim_noted(shared, &cursor, &stack->claim, slot, pp__word_generation(word),
	                               size + self->options->capture_bytes);
	if (offset < 0)
		return;
	stack->size = copy_stack(shared->base + offset, from, size, &base);
	stack->base = base;
#else
	(void)self;
	(void)slot;
	(void)word;
#endif
}
