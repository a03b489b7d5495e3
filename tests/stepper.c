/* SPDX-License-Identifier: MIT */
/* ptrace(2), as far as a test needs it. Signals of the tracee are handed on, so that it dies of what it would die of. */
#include "stepper.h"
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

/* The stop of a tracee, or its end; EINTR retried. */
static bool await_stop(pid_t pid, int *status)
{
	pid_t rc;

	do
		rc = waitpid(pid, status, __WALL);
	while (rc < 0 && errno == EINTR);
	return rc == pid && WIFSTOPPED(*status);
}

bool stepper_attach(pid_t pid)
{
	int status;

	if (ptrace(PTRACE_SEIZE, pid, NULL, NULL) < 0)
		return false;
	return ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) == 0 && await_stop(pid, &status);
}

bool stepper_step(pid_t pid)
{
	int status, signal = 0;

	for (;;) {
		if (ptrace(PTRACE_SINGLESTEP, pid, NULL, (void *)(intptr_t)signal) < 0 || !await_stop(pid, &status))
			return false;
		if (WSTOPSIG(status) == SIGTRAP)
			return true;
		signal = WSTOPSIG(status);
	}
}

uintptr_t stepper_instruction(pid_t pid)
{
	return (uintptr_t)ptrace(PTRACE_PEEKUSER, pid, (void *)offsetof(struct user_regs_struct, rip), NULL);
}

void stepper_kill(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	while (await_stop(pid, &status))
		ptrace(PTRACE_CONT, pid, NULL, NULL);
}

void stepper_release(pid_t pid)
{
	ptrace(PTRACE_DETACH, pid, NULL, NULL);
}

bool stepper_allowed(void)
{
	int status;
	pid_t pid = fork();
	bool ok;

	if (pid == 0)
		for (;;)
			pause();
	ok = pid > 0 && stepper_attach(pid);
	if (pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, &status, __WALL);
	}
	return ok;
}
