/* SPDX-License-Identifier: MIT */
/*
 * PP_INLINE, from the parent's side: there is no other process, and a submit runs its task before it returns. One task at a
 * time, as in a pool with one worker; so everything that waits finds what it waits for, and nobody has to be tended,
 * woken or buried.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "door.h"
#include "pool.h"

_Thread_local bool pp__inline_inside __attribute__((tls_model("initial-exec")));

static int run_hook(pp_executor *ex, pp_fn *fn, const void *data, size_t size)
{
	int rc;

	pthread_mutex_lock(&ex->inline_lock);
	pp__inline_inside = true;
	rc = pp__enter_inline_hook(ex->inline_self, fn, data, size);
	pp__inline_inside = false;
	pthread_mutex_unlock(&ex->inline_lock);
	return rc;
}

/* The initializer's data, where the header has them. */
static int run_init_hook(pp_executor *ex, pp_fn *fn)
{
	const struct pp__header *h = ex->segment.shared.header;

	return run_hook(ex, fn, ex->segment.shared.base + (h->init_offset ? h->init_offset : h->descs), h->init_size);
}

/* As in a pool whose only worker failed. */
int pp__inline_begin(pp_executor *ex)
{
	const struct pp__header *h = ex->segment.shared.header;
	const char *reason = ex->segment.shared.workers->text;
	char text[2 * PP__TEXT];
	int rc = h->initializer ? run_init_hook(ex, h->initializer) : 0;

	ex->inline_begun = rc == 0;
	if (rc == 0)
		return 0;
	snprintf(text, sizeof text, "the initializer failed with code %d%s%.*s", rc, *reason ? ": " : "",
	         (int)PP__TEXT - 1, reason);
	pp__pool_break(ex, -ECANCELED, text);
	return ex->flags & PP_START_ALL ? -ECANCELED : 0;
}

void pp__inline_end(pp_executor *ex)
{
	const struct pp__header *h = ex->segment.shared.header;

	if (ex->inline_begun && h->finalizer)
		run_init_hook(ex, h->finalizer);
	pp__inline_free(ex->inline_self);
	ex->inline_self = NULL;
}

/* Private duplicates, as a worker would have. How many, or -EMFILE. */
static int duplicate(const pp_task_options *o, struct pp__pass_end *ends)
{
	for (uint32_t i = 0; i < o->fd_count; i++) {
		int fd = fcntl(o->fds[i], F_DUPFD_CLOEXEC, 0);
		if (fd < 0) {
			while (i--)
				pp__pass_close(&ends[i]);
			return -EMFILE;
		}
		ends[i] = pp__pass_note(fd);
	}
	return (int)o->fd_count;
}

void pp__inline_task(pp_executor *ex, const pp_task_options *o, uint32_t slot)
{
	struct pp__pass_end ends[PP_TASK_FDS_MAX];
	int count = duplicate(o, ends);

	pthread_mutex_lock(&ex->inline_lock);
	pp__inline_inside = true;
	pp__enter_inline_task(ex->inline_self, slot, ends, count);
	pp__inline_inside = false;
	pthread_mutex_unlock(&ex->inline_lock);
	atomic_fetch_sub(&ex->inline_open, 1);
}

/* Until the tasks that other threads have submitted have ended. false: the deadline has passed. */
bool pp__inline_await(pp_executor *ex, int64_t deadline)
{
	while (atomic_load(&ex->inline_open)) {
		if (pp__now_ns() >= deadline)
			return false;
		poll(NULL, 0, 1);
	}
	return true;
}

int pp__inline_round(pp_executor *ex, pp_fn *fn, const void *data, size_t size)
{
	if (ex->closed)
		return -ESHUTDOWN;
	if (atomic_load(&ex->broken))
		return -EPIPE;
	return run_hook(ex, fn, size ? data : ex->segment.shared.base, size) == 0;
}

/* Both ends of the pipe behind pp_executor_fd are here; what is full is readable. */
void pp__inline_ring_fd(const pp_executor *ex)
{
	int state = pp__cancel_hold();
	ssize_t written = 0;
	struct stat st;

	if (ex->bell_fd >= 0 && fstat(ex->bell_fd, &st) == 0 && st.st_dev == ex->fd_dev && st.st_ino == ex->fd_ino)
		written = write(ex->bell_fd, "", 1);
	(void)written;
	pp__cancel_restore(state);
}
