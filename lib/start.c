/* SPDX-License-Identifier: MIT */
/*
 * A double fork to the supervisor, whose parent is then init, so that wait(2) of the application never meets it. Every
 * descriptor that is opened here is closed again before create returns, but for the read end behind pp_executor_fd, and
 * the end from which descriptors of tasks go to the supervisor.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "door.h"
#include "pool.h"
#include "wake.h"

#define HELLO_MS  10000          /* a guard: the supervisor's first words take a fork */

_Thread_local bool pp__forking __attribute__((tls_model("initial-exec")));

/* The one in between: its only work is to end, so that the supervisor becomes init's. */
static void fork_again(const struct pp__boot *boot)
{
	struct pp__hello hello = { 0 };
	pid_t pid;

	pp__segment_forget(&boot->segment);
	pid = fork();

	if (pid == 0)
		pp__enter_supervisor(boot);
	hello.error = -errno;
	if (pid < 0 && write(boot->hello_fd, &hello, sizeof hello) < 0)
		_exit(1);
	_exit(0);
}

/* Blocks all signals meanwhile: a handler of the application must not run in a child that only looks like it. */
static pid_t fork_quietly(const struct pp__boot *boot)
{
	sigset_t all, before;
	pid_t pid;
	int error;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	pp__forking = true;
	pid = fork();
	if (pid == 0)
		fork_again(boot);
	error = errno;
	pp__forking = false;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	errno = error;
	return pid;
}

/* It may have come to life all the same, late or unheard: then it finds that nobody wants it, and ends. */
static void send_away(const struct pp__shared *shared)
{
	atomic_store(&shared->header->closing, PP__CLOSING);
	pp__nudge_supervisor(shared);
}

/* Another thread may reap the one in between first (ECHILD), so its end is no news; the hello is. */
static int await_hello(pid_t between, int fd, pid_t *supervisor)
{
	struct pp__hello hello = { .error = -EPIPE };
	struct pollfd p = { .fd = fd, .events = POLLIN };
	int64_t deadline = pp__deadline_ns(HELLO_MS);
	ssize_t n = -1;
	int status;

	while (waitpid(between, &status, 0) < 0 && errno == EINTR)
		;
	while (poll(&p, 1, 100) <= 0 && pp__now_ns() < deadline)
		;
	while (p.revents && (n = read(fd, &hello, sizeof hello)) < 0 && errno == EINTR)
		;
	if (n != (ssize_t)sizeof hello)
		return -EPIPE;
	*supervisor = hello.pid;
	return hello.error;
}

static int fork_supervisor(pp_executor *ex, const pp_options *o, int bell_fd, int pass_in)
{
	struct pp__boot boot = { .segment = ex->segment, .parent = pp__identify(getpid()), .bell_fd = bell_fd,
	                         .pass_in = pass_in, .pass = ex->pass, .options = *o };
	int hello[2], rc;
	pid_t pid, supervisor = 0;

	if (pipe2(hello, O_CLOEXEC) < 0)
		return -errno;
	boot.hello_fd = hello[1];
	boot.parent_fds[0] = hello[0];
	boot.parent_fds[1] = ex->fd;
	boot.parent_pidfd = pp__pidfd_open(getpid());
	if (boot.parent_pidfd < 0 && (errno == EMFILE || errno == ENFILE)) {
		rc = -errno;
	} else {
		pid = fork_quietly(&boot);
		rc = pid < 0 ? -errno : 0;
		close(hello[1]);
		hello[1] = -1;
		if (rc == 0)
			rc = await_hello(pid, hello[0], &supervisor);
		if (rc < 0 && pid > 0)
			send_away(&ex->segment.shared);
	}
	close(hello[0]);
	if (hello[1] >= 0)
		close(hello[1]);
	if (boot.parent_pidfd >= 0)
		close(boot.parent_pidfd);
	ex->supervisor = pp__identify(supervisor);
	return rc;
}

static int make_pipe(pp_executor *ex, int *bell_fd)
{
	struct stat st;
	int fds[2];

	*bell_fd = -1;
	if (!(ex->flags & PP_SELF_DISPATCH))
		return 0;
	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) < 0)
		return -errno;
	if (fstat(fds[0], &st) == 0) {
		ex->fd_dev = st.st_dev;
		ex->fd_ino = st.st_ino;
	}
	ex->fd = fds[0];
	*bell_fd = fds[1];
	return 0;
}

static int make_pass(pp_executor *ex, int *pass_in)
{
	int fds[2];

	if (!(ex->flags & PP_PASS_FDS))
		return 0;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) < 0)
		return errno == EMFILE || errno == ENFILE || errno == ENOMEM ? -errno : -EAGAIN;
	*pass_in = fds[0];
	ex->pass = pp__pass_note(fds[1]);
	return 0;
}

int pp__executor_start(pp_executor *ex, const pp_options *o)
{
	int bell_fd, pass_in = -1, rc = make_pipe(ex, &bell_fd);

	if (rc == 0)
		rc = make_pass(ex, &pass_in);
	if (rc == 0)
		rc = fork_supervisor(ex, o, bell_fd, pass_in);
	if (bell_fd >= 0)
		close(bell_fd);
	if (pass_in >= 0)
		close(pass_in);
	pp__segment_close_fd(&ex->segment);
	return rc;
}

/* No process: both ends of the pipe stay here. */
int pp__inline_start(pp_executor *ex)
{
	int rc = make_pipe(ex, &ex->bell_fd);

	if (rc == 0) {
		ex->inline_self = pp__inline_make(&ex->segment.shared);
		rc = ex->inline_self ? 0 : -ENOMEM;
	}
	pp__segment_close_fd(&ex->segment);
	return rc;
}
