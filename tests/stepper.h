/* SPDX-License-Identifier: MIT */
/*
 * A tracer that takes a process through its code one instruction at a time, or lets it run to a chosen one, and kills it
 * wherever the test wants. Not allowed everywhere: stepper_allowed() says whether this process may trace.
 *
 * A tracee that falls asleep in a system call has nothing to say, and a tracer that waits for it hears nothing for ever.
 * So every wait here is bounded: a tracee that sleeps for STEPPER_GUARD_MS is stopped again, and reported as stuck.
 * Everything is called from the one thread that attached; that thread has SIGCHLD blocked from then on.
 */
#ifndef TESTS_STEPPER_H
#define TESTS_STEPPER_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>

#define STEPPER_GUARD_MS 5000

enum stepper { STEPPER_OK, STEPPER_DEAD, STEPPER_STUCK, STEPPER_MISSED };

bool stepper_allowed(void);
/* Stops the process and takes it over. */
bool stepper_attach(pid_t pid);
/* The same, and its next child is kept at its first instruction: see stepper_child. */
bool stepper_attach_parent(pid_t pid);

/* One instruction further. STUCK: it sleeps in a system call, and stands there. Signals are handed on. */
enum stepper stepper_step(pid_t pid);
/*
 * Runs until it is about to execute the instruction at address for the n-th time. MISSED: it came to end first (0: there
 * is no such place). No other process is touched: a child that is born meanwhile gets its code back and runs free, unless
 * it is the one that stepper_attach_parent asked for.
 */
enum stepper stepper_run_to(pid_t pid, uintptr_t address, unsigned n, uintptr_t end);
/* Runs until it has a child, which is stopped then, and traced too; the process itself is let go. 0: there was none. */
pid_t stepper_run_to_child(pid_t pid);
/* Goes on without being stopped, and waits for its end. */
enum stepper stepper_run_out(pid_t pid);

uintptr_t stepper_instruction(pid_t pid);
/* Whether what it executes next is a system call. */
bool stepper_at_syscall(pid_t pid);
bool stepper_has_mapped(pid_t pid, const void *address);
/* SIGKILL, and waits until the kernel has taken it away from us. */
void stepper_kill(pid_t pid);
void stepper_release(pid_t pid);

/* What the kernel says of a process: state, system call, where it sleeps. */
void stepper_tell(FILE *to, pid_t pid);

#endif
