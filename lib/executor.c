/* SPDX-License-Identifier: MIT */
/*
 * Making an executor and giving it up: its segment, its books, its place in the list of all. How its processes come to
 * be is in start.c, how they end in shutdown.c.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "pool.h"
#include "wake.h"

/* All executors of this process, so that every child can close what it inherits of them. Held over each fork. */
static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER;
static pp_executor *list;

static void close_if_ours(pp_executor *ex)
{
	int state = pp__cancel_hold();
	struct stat st;

	pp__pass_close(&ex->pass);
	if (ex->fd >= 0 && fstat(ex->fd, &st) == 0 && st.st_dev == ex->fd_dev && st.st_ino == ex->fd_ino)
		close(ex->fd);
	if (ex->bell_fd >= 0 && fstat(ex->bell_fd, &st) == 0 && st.st_dev == ex->fd_dev && st.st_ino == ex->fd_ino)
		close(ex->bell_fd);
	ex->fd = ex->bell_fd = -1;
	pp__cancel_restore(state);
}

static void before_fork(void)
{
	if (!pp__forking)
		pthread_mutex_lock(&list_lock);
}

static void after_fork_in_parent(void)
{
	if (!pp__forking)
		pthread_mutex_unlock(&list_lock);
}

/*
 * The list ends with the first child. Where an executor's memory is in the parent there is nothing in the child, so what
 * its own children have at that place is theirs: they must not be rid of it.
 */
static void after_fork_in_child(void)
{
	if (list && !pp__is_original_process()) {        /* in a worker's birth every page that is touched counts */
		for (pp_executor *ex = list; ex; ex = ex->next) {
			close_if_ours(ex);
			pp__segment_disown(&ex->segment);
		}
		list = NULL;
	}
	after_fork_in_parent();
}

static void prepare_process(void)
{
	pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
	pp__clock_init();
}

static void destroy(pp_executor *ex)
{
	struct pp__box *broken = atomic_load(&ex->broken);

	if (ex->slabs && ex->segment.size)
		for (uint32_t i = 0; i < atomic_load(&ex->slots) / PP__SLAB; i++)
			munmap(ex->slabs[i], sizeof *ex->slabs[i]);
	pp__arguments_destroy(&ex->arguments, &ex->segment);
	pp__arguments_destroy(&ex->mutables, &ex->segment);
	pp__segment_destroy(&ex->segment);
	pp__code_free(ex->code);
	if (broken)
		pp__box_free(broken);
	pthread_mutex_destroy(&ex->inline_lock);
	pthread_mutex_destroy(&ex->submit_lock);
	pp__turns_destroy(&ex->turns);
	pthread_cond_destroy(&ex->news);
	free(ex->slabs);
	free(ex);
}

_Atomic unsigned pp__orphans;
static pthread_mutex_t orphan_lock = PTHREAD_MUTEX_INITIALIZER;
static pp_executor *orphans;

/* The executor is only touched if it is still in the list: another may have freed it since our slot went back. */
void pp__orphan_visit(pp_executor *ex)
{
	pp_executor **at = &orphans;
	bool last = false;

	pthread_mutex_lock(&orphan_lock);
	while (*at && *at != ex)
		at = &(*at)->next;
	if (*at) {
		pthread_mutex_lock(&ex->submit_lock);
		pp__slots_harvest(ex);
		last = pp__slots_in_use(ex) == 0;
		pthread_mutex_unlock(&ex->submit_lock);
	}
	if (last) {
		*at = ex->next;
		atomic_fetch_sub(&pp__orphans, 1);
	}
	pthread_mutex_unlock(&orphan_lock);
	if (last)
		destroy(ex);
}

static void make_orphan(pp_executor *ex)
{
	pthread_mutex_lock(&orphan_lock);
	ex->next = orphans;
	orphans = ex;
	atomic_fetch_add(&pp__orphans, 1);
	pthread_mutex_unlock(&orphan_lock);
	pp__orphan_visit(ex);
}

static unsigned backings(uint32_t flags)
{
	if (flags & PP_MEMFD_ONLY)
		return PP__BACKING_MEMFD;
	if (flags & PP_SHM_ONLY)
		return PP__BACKING_TMPFILE | PP__BACKING_NAMED;
	return PP__BACKING_TMPFILE | PP__BACKING_MEMFD | PP__BACKING_NAMED;
}

static int copy_init_data(pp_executor *ex, const pp_options *o)
{
	struct pp__header *h = ex->segment.shared.header;
	uint32_t place;          /* kept until the end */
	int64_t offset;

	h->init_size = o->initializer_size;
	if (!o->initializer_size)
		return 0;
	offset = pp__arguments_take(&ex->arguments, &ex->segment, o->initializer_size, &place);
	if (offset < 0)
		return (int)offset;
	h->init_offset = (uint64_t)offset;
	ex->init_bytes = ex->arguments.live;
	memcpy(ex->segment.shared.base + offset, o->initializer_data, o->initializer_size);
	return 0;
}

static int make_shared(pp_executor *ex, const pp_options *o)
{
	struct pp__header *h;
	int rc = pp__segment_create(&ex->segment, backings(o->flags), ex->max_workers);

	if (rc < 0)
		return rc;
	h = ex->segment.shared.header;
	h->start_attempts = o->start_attempts;
	h->flags = o->flags;
	h->max_tasks = o->max_tasks_per_worker;
	h->grace_ns = o->grace_ms == PP_NONE ? 0 : o->grace_ms < INT64_MAX / 4000000 ? o->grace_ms * 1000000 : INT64_MAX / 4;
	h->initializer = o->initializer;
	h->finalizer = o->finalizer;
	rc = pp__arguments_init(&ex->arguments, h->arguments, h->lives);
	if (rc == 0)
		rc = pp__arguments_init(&ex->mutables, h->mutables, h->size);
	if (rc == 0)
		rc = copy_init_data(ex, o);
	if (rc == 0)
		rc = pp__level_use(ex, PP__NORMAL);
	if (rc < 0)
		return rc;
	ex->slabs = calloc(h->max_slots / PP__SLAB, sizeof *ex->slabs);
	return ex->slabs ? 0 : -ENOMEM;
}

static int make_private(pp_executor **made, const pp_options *o)
{
	pp_executor *ex = aligned_alloc(alignof(pp_executor), sizeof *ex);

	if (!ex)
		return -ENOMEM;
	memset(ex, 0, sizeof *ex);
	ex->max_workers = ex->most_workers = o->max_workers == PP_INLINE ? 1 : (uint32_t)o->max_workers;
	ex->flags = o->flags;
	ex->max_pending = o->max_pending;
	ex->max_bytes = o->max_bytes;
	ex->timeout_ms = o->timeout_ms;
	ex->deadline_ms = o->deadline_ms;
	ex->has_times = o->timeout_ms || o->deadline_ms;
	ex->log = o->log;
	ex->log_context = o->log_context;
	ex->segment.fd = -1;
	ex->fd = ex->bell_fd = ex->pass.fd = -1;
	ex->callbacks_end = &ex->callbacks;
	atomic_store(&ex->spin.budget_ns, PP__SPIN_MAX_NS);
	ex->inlined = o->max_workers == PP_INLINE;
	ex->plain = !ex->inlined && !ex->max_pending && !ex->has_times && !(ex->flags & PP_ACCOUNTING);
	pthread_mutex_init(&ex->inline_lock, NULL);
	pthread_mutex_init(&ex->submit_lock, NULL);
	pp__turns_init(&ex->turns);
	pthread_cond_init(&ex->news, NULL);
	ex->code = pp__code_note();
	if (!ex->code) {
		destroy(ex);
		return -ENOMEM;
	}
	*made = ex;
	return 0;
}

/* PP_START_ALL: until every worker has run the initializer, or one of them has failed. */
static int start_all(pp_executor *ex)
{
	struct pp__control *c = ex->segment.shared.control;

	atomic_store(&ex->segment.shared.header->wanted, pp__wanted_make(ex->max_workers, 0));
	pp__nudge(ex);
	for (;;) {
		if (atomic_load(&c->initialized) >= ex->max_workers)
			return 0;
		pp__tend(ex);
		if (atomic_load(&ex->broken))
			return atomic_load(&ex->broken)->outcome.code;
		pp__sem_wait(&c->bell, pp__now_ns() + PP__SLICE_NS);
	}
}

static void unlist(pp_executor *ex)
{
	pp_executor **at = &list;

	pthread_mutex_lock(&list_lock);
	while (*at && *at != ex)
		at = &(*at)->next;
	if (*at)
		*at = ex->next;
	close_if_ours(ex);
	pthread_mutex_unlock(&list_lock);
}

static int make(pp_executor *ex, const pp_options *o)
{
	int rc;

	pthread_mutex_lock(&list_lock);
	rc = make_shared(ex, o);
	if (rc == 0)
		rc = ex->inlined ? pp__inline_start(ex) : pp__executor_start(ex, o);
	if (rc == 0) {
		ex->next = list;
		list = ex;
	} else {
		close_if_ours(ex);
	}
	pthread_mutex_unlock(&list_lock);
	return rc;
}

static int start_extras(pp_executor *ex)
{
	int rc = 0;

	if (ex->inlined)
		rc = pp__inline_begin(ex);
	else if (ex->flags & PP_START_ALL)
		rc = start_all(ex);
	if (rc == 0 && ex->log && !(ex->flags & PP_SELF_DISPATCH)) {
		pthread_mutex_lock(&pp__lock);
		rc = pp__dispatcher_start(ex);
		pthread_mutex_unlock(&pp__lock);
	}
	return rc;
}

int pp_executor_create(pp_executor **executor, const pp_options *options)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pp_executor *ex = NULL;
	pp_options o;
	int rc, state;

	if (executor)
		*executor = NULL;
	if (!pp__is_original_process())
		return -ECHILD;
	if (!executor)
		return -EINVAL;
	rc = pp__options_read(&o, options);
	if (rc == 0)
		rc = make_private(&ex, &o);
	if (rc < 0)
		return rc;
	if ((o.initializer && !pp__code_is_known(ex->code, o.initializer))
	    || (o.finalizer && !pp__code_is_known(ex->code, o.finalizer))) {
		destroy(ex);
		return -EINVAL;
	}
	state = pp__cancel_hold();
	pthread_once(&once, prepare_process);
	rc = make(ex, &o);
	pp__cancel_restore(state);
	if (rc < 0) {
		destroy(ex);
		return rc;
	}
	rc = start_extras(ex);
	if (rc < 0) {
		pp_executor_free(ex);
		return rc;
	}
	*executor = ex;
	return 0;
}

void pp_executor_free(pp_executor *ex)
{
	int state;

	if (!ex || !pp__is_original_process())
		return;
	if (pp__in_callback(ex)) {
		fputs("procpool: pp_executor_free from a callback of the same executor\n", stderr);
		abort();
	}
	state = pp__cancel_hold();
	pp_executor_shutdown(ex, PP_SHUTDOWN_WAIT, PP_FOREVER);
	pp__dispatcher_stop(ex);
	if (ex->inlined)
		pp__inline_end(ex);
	unlist(ex);
	make_orphan(ex);
	pp__cancel_restore(state);
}

uint32_t pp__live_workers(const struct pp__shared *shared, pid_t *pids, size_t n)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < shared->header->entries; i++) {
		pid_t pid = atomic_load(&shared->workers[i].pid);
		if (pid <= 0 || atomic_load(&shared->workers[i].seat) < 0)
			continue;
		if (count < n)
			pids[count] = pid;
		count++;
	}
	return count;
}

int pp_executor_workers(pp_executor *ex, pid_t *pids, size_t n)
{
	if (!pp__is_original_process())
		return -ECHILD;
	if (!ex || (!pids && n))
		return -EINVAL;
	return (int)pp__live_workers(&ex->segment.shared, pids, n);
}

const pp_outcome *pp_executor_broken(pp_executor *ex)
{
	const struct pp__box *box;

	if (!ex || !pp__is_original_process())
		return NULL;
	if (!atomic_load(&ex->broken))
		pp__tend(ex);
	box = atomic_load(&ex->broken);
	return box ? &box->outcome : NULL;
}
