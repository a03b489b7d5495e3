/* SPDX-License-Identifier: MIT */
/*
 * A worker that dies by a catchable cause settles its own future, so that the caller hears of it before the kernel has
 * torn the process down (18 ms with a 1 GiB heap). All that the handler does is optional: what it does not get done, the
 * supervisor does. It ends by the default action, so that core dumps and the wait status tell the true cause.
 */
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "policy.h"
#include "slot.h"
#include "sysdep.h"
#include "tally.h"
#include "wake.h"
#include "worker.h"

#define STACK_BYTES (64u * 1024u)
#define FRAME_BYTES 8192u                /* of it, for what the kernel puts there, registers of 512 bits among it */

static struct pp__self *dying_self;      /* handlers have no other way to it */

static bool has_address(int signal)
{
	return signal == SIGSEGV || signal == SIGBUS || signal == SIGILL || signal == SIGFPE;
}

bool pp__is_crash_signal(int signal)
{
	return has_address(signal) || signal == SIGABRT || signal == SIGTRAP || signal == SIGSYS;
}

/*
 * Moves the task that runs now to its end by death. STOPPING forbids it: then the cause is already decided. Whoever
 * waits is woken before the spare is; then this process gives way to both, because it is about to be torn down. Calls of
 * libc's that nothing has needed so far would cost a page fault each, so they are made by number.
 */
static void settle(struct pp__self *self, int signal, int code, const siginfo_t *info, const void *context)
{
	const struct pp__shared *shared = self->shared;
	uint32_t slot = atomic_load(&self->line->cur);
	struct sched_param zero = { 0 };
	struct pp__cell *cell;
	uint64_t word;

	pp__guard_drop(&self->guard);
	if (slot >= atomic_load(&shared->header->slots))
		return;
	cell = shared->cells + slot;
	word = pp__slot_look(cell);
	if (!pp__state_runs(pp__word_state(word)) || !pp__word_is_owned_by(word, self->owner))
		return;
	pp__guard_open_at(&self->guard, cell, sizeof *cell);
	cell->end_ns = (uint64_t)pp__now_ns();
	if (self->accounts)
		pp__usage_end(self, slot);
	cell->death_signal = signal;
	cell->death_code = code;
	cell->death_address = info && has_address(signal) ? (uint64_t)(uintptr_t)info->si_addr : 0;
	if (info)
		pp__death_note(&self->line->crash, word, info, context);
	if (pp__policy_retries(pp__policy_of(shared, slot), signal ? PP_CRASHED : PP_EXITED)) {
		pp__promote_spare(self);
		return;                  /* the supervisor has to see that this is dead before another attempt can start */
	}
	word = pp__slot_die(cell, word);
	if (!word)
		return;
	pp__tally_end(self->tally, signal ? PP_CRASHED : PP_EXITED, cell);
	pp__announce_end(shared, slot, word);
	if (atomic_load(&shared->header->submit_cpu) == pp__cpu_here())
		syscall(SYS_sched_yield);        /* who waits on this CPU goes on before the spare does */
	pp__promote_spare(self);
	syscall(SYS_sched_setscheduler, 0, SCHED_IDLE, &zero);
	syscall(SYS_sched_yield);        /* who was woken on this CPU would else wait until the slice is over */
	if (info) {
		pp__guard_drop_all(&self->guard);
		pp__death_save_stack(self, slot, word);
	}
}

/* One thread settles; others wait for the process to end. true: it is this one. false: it has been here before, and
 * whatever it did there has failed. */
static bool is_first(struct pp__self *self)
{
	pid_t me = (pid_t)syscall(SYS_gettid), nobody = 0;

	if (atomic_compare_exchange_strong(&self->dying, &nobody, me))
		return true;
	while (nobody != me)
		pause();
	return false;
}

static void on_crash(int signal, siginfo_t *info, void *context)
{
	struct sigaction action = { .sa_handler = SIG_DFL };
	sigset_t set;

	if (getpid() == dying_self->pid && is_first(dying_self))
		settle(dying_self, signal, info->si_code, info, context);
	sigaction(signal, &action, NULL);
	if (info->si_code > 0 && has_address(signal)) {
		pp__guard_refuse(&dying_self->guard);
		return;                  /* the instruction is tried again, and the core shows it */
	}
	sigemptyset(&set);
	sigaddset(&set, signal);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), signal);
}

/* exit(3), and the end of the last thread, come here before any handler that the application has registered. */
static void on_leave(int status, void *self_pointer)
{
	struct pp__self *self = self_pointer;

	if (getpid() != self->pid)
		return;                  /* a child of the task: its exit is its own */
	if (is_first(self)) {
		pp__flush_output();
		settle(self, 0, status & 0xff, NULL, NULL);
	}
	_exit(status);
}

int pp__crash_arm(struct pp__self *self)
{
	struct sigaction action = { .sa_sigaction = on_crash, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	stack_t stack = { .ss_size = STACK_BYTES };

	dying_self = self;
	if (on_exit(on_leave, self) != 0)
		return -ENOMEM;
	if (self->options->flags & PP_NO_CRASH_HANDLER)
		return 0;                /* the supervisor settles; and the application may have handlers, and a stack for them */
	stack.ss_sp = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (stack.ss_sp == MAP_FAILED || sigaltstack(&stack, NULL) < 0)
		return -ENOMEM;
	for (uint32_t at = STACK_BYTES - FRAME_BYTES; at < STACK_BYTES; at += PP__PAGE)
		((volatile char *)stack.ss_sp)[at] = 0;  /* now, rather than while somebody waits to hear of the crash */
	sigfillset(&action.sa_mask);
	for (int signal = 1; signal < NSIG; signal++)
		if (pp__is_crash_signal(signal) && sigaction(signal, &action, NULL) < 0)
			return -EAGAIN;
	return 0;
}
