/* SPDX-License-Identifier: MIT */
/*
 * A tracer that takes a worker through its code one instruction at a time, and kills it wherever the test wants. Not
 * allowed everywhere: stepper_allowed() says whether this process may trace.
 */
#ifndef TESTS_STEPPER_H
#define TESTS_STEPPER_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

bool stepper_allowed(void);
/* Stops the process and takes it over. */
bool stepper_attach(pid_t pid);
/* One instruction further. false: it has ended. */
bool stepper_step(pid_t pid);
uintptr_t stepper_instruction(pid_t pid);
/* SIGKILL, and waits until the kernel has taken it away from us. */
void stepper_kill(pid_t pid);
void stepper_release(pid_t pid);

#endif
