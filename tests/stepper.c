/* SPDX-License-Identifier: MIT */
/* ptrace(2), as far as a test needs it. Signals of the tracee are handed on, so that it dies of what it would die of. */
#include "stepper.h"
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ptrace.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BREAKPOINT 0xccu
#define SLICE_MS   50
#define VDSO_SIZE  0x3000u

/* Bytes that were replaced by a breakpoint, in the tracee at hand. */
struct patch { uintptr_t at; unsigned char byte; bool set; };

static int64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static bool read_proc(pid_t pid, const char *name, char *text, size_t size)
{
	char path[64];
	FILE *file;
	size_t n;

	snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, name);
	file = fopen(path, "re");
	if (!file)
		return false;
	n = fread(text, 1, size - 1, file);
	fclose(file);
	text[n] = 0;
	return n > 0;
}

static char state_of(pid_t pid)
{
	char text[512], *close_paren;

	close_paren = read_proc(pid, "stat", text, sizeof text) ? strrchr(text, ')') : NULL;
	return close_paren && close_paren[1] ? close_paren[2] : '?';
}

void stepper_tell(FILE *to, pid_t pid)
{
	char syscall_text[256] = "?\n", wchan[128] = "?";

	read_proc(pid, "syscall", syscall_text, sizeof syscall_text);
	read_proc(pid, "wchan", wchan, sizeof wchan);
	fprintf(to, "  process %d: state %c, in %s, system call %s", (int)pid, state_of(pid), wchan, syscall_text);
}

static void hold_sigchld(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
}

/* The stop of a tracee, or its end. false: it sleeps, and has for the guard. What runs, however slowly, is waited for. */
static bool await(pid_t pid, int *status)
{
	const struct timespec slice = { .tv_nsec = SLICE_MS * 1000000L };
	int64_t deadline = now_ms() + STEPPER_GUARD_MS;
	sigset_t set;
	pid_t rc;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	for (;;) {
		rc = waitpid(pid, status, __WALL | WNOHANG);
		if (rc == pid)
			return true;
		if (rc < 0 && errno != EINTR) {
			*status = 0;             /* not ours, or gone: as if it had exited */
			return true;
		}
		if (sigtimedwait(&set, NULL, &slice) < 0 && now_ms() >= deadline && strchr("SD", state_of(pid)))
			return false;
	}
}

static bool await_stop(pid_t pid)
{
	int status;

	return await(pid, &status) && WIFSTOPPED(status);
}

/*
 * The kernel's page of code in every process. What reads the clock there tries again when a tick came in between, and
 * at the pace of single steps on a busy machine a tick always comes: it must be run through. At the same address in all
 * processes that were forked from one.
 */
static bool is_in_vdso(uintptr_t at)
{
	uintptr_t vdso = getauxval(AT_SYSINFO_EHDR);

	return vdso && at >= vdso && at < vdso + VDSO_SIZE;
}

static bool attach(pid_t pid, long options)
{
	const struct timespec moment = { .tv_nsec = 1000 };

	hold_sigchld();
	if (ptrace(PTRACE_SEIZE, pid, NULL, (void *)options) < 0)
		return false;
	for (;;) {
		if (ptrace(PTRACE_INTERRUPT, pid, NULL, NULL) < 0 || !await_stop(pid))
			return false;
		if (!is_in_vdso(stepper_instruction(pid)))
			return true;
		ptrace(PTRACE_CONT, pid, NULL, NULL);
		nanosleep(&moment, NULL);
	}
}

bool stepper_attach(pid_t pid)
{
	return attach(pid, 0);
}

bool stepper_attach_parent(pid_t pid)
{
	return attach(pid, PTRACE_O_TRACEFORK);
}

/* Stops what sleeps, so that the caller can look at it and kill it. */
static enum stepper stuck(pid_t pid)
{
	ptrace(PTRACE_INTERRUPT, pid, NULL, NULL);
	return await_stop(pid) ? STEPPER_STUCK : STEPPER_DEAD;
}

static void put_byte(pid_t pid, uintptr_t at, unsigned char byte)
{
	uintptr_t base = at & ~(uintptr_t)7, shift = (at & 7) * 8;
	unsigned long word;

	word = (unsigned long)ptrace(PTRACE_PEEKTEXT, pid, (void *)base, NULL);
	word = (word & ~(0xfful << shift)) | (unsigned long)byte << shift;
	ptrace(PTRACE_POKETEXT, pid, (void *)base, (void *)word);
}

static void patch_set(pid_t pid, struct patch *patch)
{
	uintptr_t base = patch->at & ~(uintptr_t)7, shift = (patch->at & 7) * 8;

	if (!patch->at)
		return;
	patch->byte = (unsigned char)((unsigned long)ptrace(PTRACE_PEEKTEXT, pid, (void *)base, NULL) >> shift);
	put_byte(pid, patch->at, BREAKPOINT);
	patch->set = true;
}

static void patch_unset(pid_t pid, const struct patch *patch)
{
	if (patch->set)
		put_byte(pid, patch->at, patch->byte);
}

/* A child has the breakpoints of its parent, and nobody to stop for at them. */
static pid_t take_child(pid_t pid, const struct patch *patches, size_t n)
{
	unsigned long child = 0;

	if (ptrace(PTRACE_GETEVENTMSG, pid, NULL, &child) < 0 || !await_stop((pid_t)child))
		return 0;
	for (size_t i = 0; i < n; i++)
		patch_unset((pid_t)child, &patches[i]);
	return (pid_t)child;
}

/*
 * Lets it go on by request (PTRACE_CONT, PTRACE_SINGLESTEP) until it stops at a trap of its own. event: a ptrace event
 * that ends this too.
 */
static enum stepper resume(pid_t pid, int request, int event, const struct patch *patches, size_t n)
{
	int status, signal = 0;

	for (;;) {
		if (ptrace(request, pid, NULL, (void *)(intptr_t)signal) < 0)
			return STEPPER_DEAD;
		if (!await(pid, &status))
			return stuck(pid);
		if (!WIFSTOPPED(status))
			return STEPPER_DEAD;
		signal = 0;
		if (status >> 16 == PTRACE_EVENT_FORK && event != PTRACE_EVENT_FORK) {
			pid_t child = take_child(pid, patches, n);
			if (child)
				ptrace(PTRACE_DETACH, child, NULL, NULL);
		}
		if (status >> 16) {
			if (status >> 16 == event)
				return STEPPER_OK;
			continue;
		}
		if (WSTOPSIG(status) == SIGTRAP)
			return STEPPER_OK;
		signal = WSTOPSIG(status);
	}
}

/* Right behind a call its return address is on top of the stack. */
enum stepper stepper_step(pid_t pid)
{
	enum stepper rc = resume(pid, PTRACE_SINGLESTEP, 0, NULL, 0);
	unsigned long sp;

	if (rc != STEPPER_OK || !is_in_vdso(stepper_instruction(pid)))
		return rc;
	sp = (unsigned long)ptrace(PTRACE_PEEKUSER, pid, (void *)offsetof(struct user_regs_struct, rsp), NULL);
	return stepper_run_to(pid, (uintptr_t)ptrace(PTRACE_PEEKDATA, pid, (void *)sp, NULL), 1, 0);
}

uintptr_t stepper_instruction(pid_t pid)
{
	return (uintptr_t)ptrace(PTRACE_PEEKUSER, pid, (void *)offsetof(struct user_regs_struct, rip), NULL);
}

bool stepper_at_syscall(pid_t pid)
{
	unsigned long word;

	errno = 0;
	word = (unsigned long)ptrace(PTRACE_PEEKTEXT, pid, (void *)stepper_instruction(pid), NULL);
	return errno == 0 && (word & 0xffff) == 0x050f;
}

bool stepper_has_mapped(pid_t pid, const void *address)
{
	errno = 0;
	ptrace(PTRACE_PEEKDATA, pid, address, NULL);
	return errno == 0;
}

/* Whether it stands behind the breakpoint; then it is set back before it. */
static bool is_at(pid_t pid, const struct patch *patch)
{
	if (!patch->set || stepper_instruction(pid) != patch->at + 1)
		return false;
	ptrace(PTRACE_POKEUSER, pid, (void *)offsetof(struct user_regs_struct, rip), (void *)patch->at);
	return true;
}

enum stepper stepper_run_to(pid_t pid, uintptr_t address, unsigned n, uintptr_t end)
{
	struct patch patches[2] = { { .at = address }, { .at = end == address ? 0 : end } };
	enum stepper rc;

	patch_set(pid, &patches[0]);
	patch_set(pid, &patches[1]);
	for (;;) {
		rc = resume(pid, PTRACE_CONT, 0, patches, 2);
		if (rc == STEPPER_DEAD)
			return rc;
		if (rc == STEPPER_STUCK)
			break;
		if (is_at(pid, &patches[1])) {
			rc = STEPPER_MISSED;
			break;
		}
		if (!is_at(pid, &patches[0]))
			continue;
		if (--n == 0)
			break;
		patch_unset(pid, &patches[0]);
		rc = resume(pid, PTRACE_SINGLESTEP, 0, patches, 2);
		if (rc != STEPPER_OK)
			break;
		patch_set(pid, &patches[0]);
	}
	if (rc != STEPPER_DEAD)
		for (int i = 0; i < 2; i++)
			patch_unset(pid, &patches[i]);
	return rc;
}

pid_t stepper_run_to_child(pid_t pid)
{
	pid_t child = 0;

	if (resume(pid, PTRACE_CONT, PTRACE_EVENT_FORK, NULL, 0) == STEPPER_OK)
		child = take_child(pid, NULL, 0);
	stepper_release(pid);
	return child;
}

enum stepper stepper_run_out(pid_t pid)
{
	enum stepper rc;

	do
		rc = resume(pid, PTRACE_CONT, 0, NULL, 0);
	while (rc == STEPPER_OK);
	return rc;
}

void stepper_kill(pid_t pid)
{
	int status;

	kill(pid, SIGKILL);
	while (await(pid, &status) && WIFSTOPPED(status))
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
