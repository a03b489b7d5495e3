/* SPDX-License-Identifier: MIT */
/*
 * The supervisor's loop: sleep until a child ends, a nudge comes, the parent ends or a look is due; then look at
 * everything. What wakes it says nothing; each look reads the truth anew. All signals are blocked but while it
 * sleeps, where SIGCHLD and the nudge end the sleep.
 */
#include "supervisor.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "policy.h"
#include "ring.h"
#include "slot.h"
#include "surroundings.h"
#include "wake.h"

#define PARENT_LOOK_NS INT64_C(50000000)         /* where there is no pidfd */

static void do_nothing(int signal)
{
	(void)signal;
}

/*
 * Blocked signals never act: a Ctrl-C, a hang-up or a stop of the whole job is for the parent to decide. Dispositions are
 * those of the workers, who inherit them: the default ones, but for SIGINT an empty handler rather than SIG_IGN, which a
 * program that a task executes would inherit. Without a handler of ours the application's are kept for what kills.
 */
static void hold_signals(uint32_t flags)
{
	struct sigaction action = { .sa_handler = SIG_DFL };
	sigset_t all;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	for (int s = 1; s < NSIG; s++)
		if (!(flags & PP_NO_CRASH_HANDLER) || !pp__is_crash_signal(s))
			sigaction(s, &action, NULL);     /* fails for those that are not ours to set */
	action.sa_handler = do_nothing;
	action.sa_flags = SA_RESTART;
	sigaction(SIGINT, &action, NULL);
	action.sa_flags = 0;
	sigaction(SIGCHLD, &action, NULL);
	sigaction(SIGURG, &action, NULL);
}

static bool parent_is_alive(const struct pp__supervisor *s)
{
	struct pollfd fd = { .fd = s->boot.parent_pidfd, .events = POLLIN };

	if (fd.fd < 0)
		return pp__is_alive(&s->boot.parent);
	return poll(&fd, 1, 0) == 0 || fd.revents == 0;
}

static void ring_fd(struct pp__supervisor *s)
{
	if (s->boot.bell_fd >= 0 && write(s->boot.bell_fd, "", 1) < 0)
		return;                  /* full: it is readable */
}

/* Whether the worker executes a task that started after then: submitted later than a kill was asked for, it is not meant. */
static bool runs_since(const struct pp__supervisor *s, uint32_t entry, uint64_t then)
{
	struct pp__cell *cell;
	uint64_t word = pp__word_at_hand(s, entry, &cell);

	return pp__state_runs(pp__word_state(word)) && cell->start_ns > then;
}

/* As pp_future_kill would. */
static void ask_to_end(struct pp__supervisor *s, uint32_t entry)
{
	struct pp__cell *cell;
	uint64_t word = pp__word_at_hand(s, entry, &cell);

	struct pp__policy *policy;

	if (!word)
		return;
	policy = pp__policy_of(s->shared, (uint32_t)(cell - s->shared->cells));
	if (policy)
		atomic_store(&policy->given_up, 1);
	pp__slot_ask(cell, word, PP__ASKED_KILL);
}

static void kill_all(struct pp__supervisor *s, int signal, uint64_t then)
{
	for (uint32_t i = 0; i < s->shared->header->entries; i++) {
		if (runs_since(s, i, then))
			continue;
		if (signal == PP__KILL_ASK) {
			ask_to_end(s, i);
			continue;
		}
		s->children[i].asked = s->children[i].pid;
		pp__kill_worker(s, i, signal);
	}
}

/* What the parent and the workers ask for by counters. */
static void serve_requests(struct pp__supervisor *s)
{
	struct pp__header *h = s->shared->header;
	uint32_t parent = atomic_load(&h->fd_requests), workers = atomic_load(&s->shared->control->fd_requests);
	uint32_t kills = atomic_load(&h->kill_requests);

	if (parent != s->fd_requests_parent || workers != s->fd_requests_workers)
		ring_fd(s);
	s->fd_requests_parent = parent;
	s->fd_requests_workers = workers;
	if (kills != s->kill_requests)
		kill_all(s, (int)atomic_load(&h->kill_signal), atomic_load(&h->kill_ns));
	s->kill_requests = kills;
}

bool pp__has_work(const struct pp__supervisor *s)
{
	return pp__has_requeued(s) || pp__ring_has_ready(s->shared);
}

/* Closing, nobody left, nothing to do. What was broken ends as soon as its workers have. */
static bool is_finished(struct pp__supervisor *s)
{
	if (pp__has_children(s))
		return false;
	if (atomic_load(&s->shared->control->broken))
		return true;
	return atomic_load(&s->shared->header->closing) && !s->delayed && !pp__has_work(s);
}

static void sleep_until_news(struct pp__supervisor *s)
{
	int64_t timeout = pp__patrol_timeout(s);
	struct pollfd fds[] = {
		{ .fd = s->boot.parent_pidfd, .events = POLLIN }, { .fd = s->boot.pass_in, .events = POLLIN }
	};
	struct timespec t;
	sigset_t mask;

	if (fds[0].fd < 0 && (timeout < 0 || timeout > PARENT_LOOK_NS))
		timeout = PARENT_LOOK_NS;
	t = (struct timespec){ .tv_sec = timeout / 1000000000, .tv_nsec = timeout % 1000000000 };
	sigfillset(&mask);
	sigdelset(&mask, SIGCHLD);
	sigdelset(&mask, SIGURG);
	ppoll(fds, 2, timeout < 0 ? NULL : &t, &mask);
	atomic_store(&s->shared->control->supervisor_wakes_ns, 0);
}

/* A stranger's own children become ours when it is dead, which takes a moment: until there is no child of any kind. */
static void end_strangers(struct pp__supervisor *s, int64_t deadline)
{
	siginfo_t info;

	do {
		pp__kill_strangers(s);
		pp__reap_all(s);
		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0)
			return;
		poll(NULL, 0, 1);
	} while (pp__now_ns() < deadline);
}

/* The parent has gone: nothing of the executor may stay. Bounded, for what cannot be killed. */
static void end_everything(struct pp__supervisor *s)
{
	int64_t deadline = pp__now_ns() + PP__UNKILLABLE_NS;

	while (pp__has_children(s) && pp__now_ns() < deadline) {
		kill_all(s, SIGKILL, UINT64_MAX);
		pp__reap_all(s);
		if (pp__has_children(s))
			poll(NULL, 0, 1);
	}
	end_strangers(s, deadline);
}

/* For statistics: the parent has no descriptor of the segment any more. */
static void publish_size(struct pp__supervisor *s)
{
	struct stat st;

	if (fstat(s->boot.segment.fd, &st) == 0)
		atomic_store(&s->shared->control->shared_bytes, (uint64_t)st.st_blocks * 512);
}

/* Who replaces the dead comes before what the dead have left behind: somebody may wait for it. */
static void look_around(struct pp__supervisor *s)
{
	bool some_died = pp__reap_all(s);

	serve_requests(s);
	pp__pass_serve(s);
	pp__look_at_timed(s);
	pp__patrol(s);
	pp__spawn_wanted(s);
	if (some_died)
		pp__kill_strangers(s);
	publish_size(s);
}

/* The stdin of all workers. */
static int open_null(void)
{
	int fd = open("/dev/null", O_RDONLY);

	if (fd < 0)
		return errno == EMFILE || errno == ENFILE || errno == ENOMEM ? -errno : -EAGAIN;
	return fd;
}

static int start(struct pp__supervisor *s, const struct pp__boot *boot)
{
	struct pp__control *c;
	int rc;

	hold_signals(boot->options.flags);
	s->boot = *boot;
	s->shared = &s->boot.segment.shared;
	s->pid = getpid();
	rc = pp__segment_map_again(&boot->segment);
	if (rc < 0)
		return rc;
	c = s->shared->control;
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	prctl(PR_SET_NAME, "procpool");
	s->oom_score = pp__oom_raise();
	/* What the application had in its buffers is the application's to print. */
	__fpurge(stdout);
	__fpurge(stderr);
	if (boot->bell_fd >= 0)
		fcntl(boot->bell_fd, F_SETFL, O_NONBLOCK);
	for (int i = 0; i < 2; i++)
		if (boot->parent_fds[i] >= 0)
			close(boot->parent_fds[i]);
	s->null_fd = open_null();        /* after these, which make room for it */
	if (s->null_fd < 0)
		return s->null_fd;
	atomic_store(&c->supervisor_pid, s->pid);
	return 0;
}

int pp__supervisor_main(const struct pp__boot *boot)
{
	static struct pp__supervisor s;

	struct pp__hello hello = { .error = start(&s, boot), .pid = getpid() };

	if (write(boot->hello_fd, &hello, sizeof hello) != (ssize_t)sizeof hello || hello.error < 0)
		return 1;
	close(boot->hello_fd);
	pp__oom_begin(&s.oom);           /* reads some files of /proc: create does not wait for that */
	for (;;) {
		look_around(&s);
		if (is_finished(&s))
			break;
		sleep_until_news(&s);
		if (!parent_is_alive(&s)) {
			end_everything(&s);
			return 0;
		}
	}
	end_strangers(&s, pp__now_ns() + PP__UNKILLABLE_NS);
	atomic_store(&s.shared->control->finished, 1);
	ring_fd(&s);
	pp__segment_forget(&boot->segment);
	return 0;
}
