/* SPDX-License-Identifier: MIT */
/*
 * From a fork of the supervisor to a worker: nothing of the application's that could be disturbed stays reachable. Order
 * matters at the start: first the tie to the supervisor, so that a worker whose supervisor dies meanwhile dies too.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <sys/prctl.h>
#include <unistd.h>
#include "capture.h"
#include "segment.h"
#include "slot.h"
#include "supervisor.h"
#include "surroundings.h"
#include "worker.h"

/* The supervisor's own two; the others are as a worker has them already, once for all workers. */
static void reset_signals(void)
{
	struct sigaction action = { .sa_handler = SIG_DFL };
	sigset_t none;

	sigaction(SIGCHLD, &action, NULL);
	sigaction(SIGURG, &action, NULL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

static int stdin_from_null(int fd)
{
	if (fd == STDIN_FILENO)
		return 0;
	if (dup2(fd, STDIN_FILENO) < 0)
		return -EMFILE;
	close(fd);
	return 0;
}

static void close_supervisors(const struct pp__boot *boot)
{
	if (boot->parent_pidfd >= 0)
		close(boot->parent_pidfd);
	if (boot->bell_fd >= 0)
		close(boot->bell_fd);
	if (boot->segment.fd >= 0)
		close(boot->segment.fd);
}

/* Tasks may have overwritten it since the supervisor has made it; with some of what may stand there libc waits for ever,
 * or ends the process. So it is made again, and only tried: without it a death is found by other ways. */
static void take_life(pthread_mutex_t *life)
{
	pp__life_make(life);
	if (pthread_mutex_trylock(life) != 0)
		return;
}

int pp__worker_setup(struct pp__self *self, struct pp__supervisor *supervisor)
{
	struct pp__worker *line = self->line;
	int rc;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != supervisor->pid)
		_exit(0);                        /* it died before the line above */
	self->pid = getpid();
	self->supervisor = supervisor->pid;
	self->mark = pp__worker_mark();
	self->incarnation = supervisor->incarnations[self->entry];
	self->owner = pp__owner(self->entry, self->incarnation);
	atomic_store(&line->pid, self->pid);
	setpgid(0, 0);
	take_life(pp__life_of(self->shared, self->entry));
	close_supervisors(&supervisor->boot);
	pp__pass_forget(supervisor);
	self->pass = supervisor->boot.pass;
	self->options = &supervisor->boot.options;
	rc = pp__segment_restrict(self->shared);
	if (rc == 0)
		rc = stdin_from_null(supervisor->null_fd);
	if (rc == 0)
		rc = pp__capture_enter(self, supervisor);
	if (rc == 0)
		rc = pp__surroundings_enter(self, self->options, &supervisor->oom_score);
	reset_signals();
	if (rc == 0)
		rc = pp__crash_arm(self);
	if (rc == 0)
		rc = pp__surroundings_limit(self, self->options);
	if (rc == 0)
		rc = pp__guard_arm(self);
	if (rc < 0) {
		line->init_code = rc;
		atomic_store(&line->phase, PP__SETUP_FAILED);
	}
	return rc;
}

void pp__flush_output(void)
{
	if (__fpending(stdout))
		fflush(stdout);
	if (__fpending(stderr))
		fflush(stderr);
}
