/* SPDX-License-Identifier: MIT */
/*
 * Lock-out: who is not of a pool does not get at its memory. For each way in which the kernel gives memory, and as on a
 * kernel that is so old that the parent keeps a descriptor: the object has no name and is for its user only; no program
 * that is executed, by a task, by a worker in its own place or by the application, has a descriptor or a mapping of it;
 * nor has a process of another pool, whichever was made first, nor a plain fork of the application. Also that those forks
 * keep what is theirs, where other forks have the memory of a pool.
 */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>
#include "crash/interpose.h"
#include "pool.h"
#include "support.h"

static const struct config { unsigned flags; bool old_kernel; } configs[] = {
	{ 0, false }, { PP_MEMFD_ONLY, false }, { PP_SHM_ONLY, false }, { 0, true },
};
#define CONFIGS ((int)(sizeof configs / sizeof *configs))

static pp_executor *make(int config)
{
	pp_options options = support_options(2);

	interpose_old_kernel(configs[config].old_kernel);
	options.flags = configs[config].flags | PP_SELF_DISPATCH;
	return support_create(&options);
}

/* ---- what a process has of a pool */

struct holding { int mappings, fds, bells, pidfds; };

static void count_mappings(pid_t pid, const pp_executor *ex, struct holding *h)
{
	char path[64], line[1024];
	unsigned long long inode;
	FILE *maps;

	snprintf(path, sizeof path, "/proc/%d/maps", (int)pid);
	maps = fopen(path, "re");
	while (maps && fgets(line, sizeof line, maps))
		h->mappings += sscanf(line, "%*s %*s %*s %*s %llu", &inode) == 1 && inode == ex->segment.ino
		               && (strstr(line, "/dev/shm/") || strstr(line, "/memfd:procpool"));
	if (maps)
		fclose(maps);
}

static struct holding holding_of(pid_t pid, const pp_executor *ex)
{
	struct holding h = { 0 };
	char path[64], target[64];
	struct dirent *entry;
	struct stat st;
	DIR *dir;

	count_mappings(pid, ex, &h);
	snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
	dir = opendir(path);
	ck_assert_ptr_nonnull(dir);
	while ((entry = readdir(dir)) != NULL) {
		if (!isdigit((unsigned char)*entry->d_name) || fstatat(dirfd(dir), entry->d_name, &st, 0) < 0)
			continue;
		memset(target, 0, sizeof target);
		h.pidfds += readlinkat(dirfd(dir), entry->d_name, target, sizeof target - 1) > 0 && strstr(target, "pidfd");
		h.fds += st.st_dev == ex->segment.dev && st.st_ino == ex->segment.ino;
		h.bells += st.st_dev == ex->fd_dev && st.st_ino == ex->fd_ino;
	}
	closedir(dir);
	return h;
}

static void assert_holds_nothing(pid_t pid, const pp_executor *ex)
{
	struct holding h = holding_of(pid, ex);

	ck_assert_int_eq(h.mappings, 0);
	ck_assert_int_eq(h.fds, 0);
	ck_assert_int_eq(h.bells, 0);
}

/* ---- no name, and for its user only */

static int count_names(void)
{
	DIR *dir = opendir("/dev/shm");
	struct dirent *entry;
	int n = 0;

	while (dir && (entry = readdir(dir)) != NULL)
		n += strstr(entry->d_name, "procpool") != NULL;
	if (dir)
		closedir(dir);
	return n;
}

/* The mapping's own link to its object: only a privileged process may follow it. */
static bool stat_object(const pp_executor *ex, struct stat *st)
{
	char range[64], path[128], line[1024];
	unsigned long long inode;
	bool found = false;
	FILE *maps = fopen("/proc/self/maps", "re");

	while (maps && !found && fgets(line, sizeof line, maps))
		if (sscanf(line, "%63s %*s %*s %*s %llu", range, &inode) == 2 && inode == ex->segment.ino
		    && strstr(line, " (deleted)")) {
			snprintf(path, sizeof path, "/proc/self/map_files/%s", range);
			found = stat(path, st) == 0;
		}
	if (maps)
		fclose(maps);
	return found;
}

START_TEST(object_has_no_name)
{
	int names = count_names();
	pp_executor *ex = make(_i);
	struct stat st;

	ck_assert_int_eq(count_names(), names);
	if (geteuid() == 0) {
		ck_assert(stat_object(ex, &st));
		ck_assert_uint_eq(st.st_mode & 07777, 0600);
		ck_assert_uint_eq(st.st_uid, geteuid());
	}
	ck_assert_int_eq(ex->segment.fd >= 0, configs[_i].old_kernel);
	if (ex->segment.fd >= 0)
		ck_assert_int_eq(fcntl(ex->segment.fd, F_GETFD), FD_CLOEXEC);
	pp_executor_free(ex);
}
END_TEST

/* ---- exec */

enum way { BY_FORK, BY_SPAWN, IN_PLACE, WAYS };
struct order { struct gate gate; enum way way; long *pid; };

static char *const program[] = { (char *)"head", (char *)"-c1", NULL };

static void become_program(const struct order *order)
{
	dup2(order->gate.pass[0], STDIN_FILENO);
	dup2(order->gate.arrive[1], STDOUT_FILENO);
	execvp(*program, program);
	_exit(127);
}

static int start_program(const struct order *order, pid_t *pid)
{
	posix_spawn_file_actions_t actions;
	int error;

	if (order->way == BY_FORK) {
		*pid = fork();
		if (*pid == 0)
			become_program(order);
		return *pid < 0;
	}
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, order->gate.pass[0], STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&actions, order->gate.arrive[1], STDOUT_FILENO);
	error = posix_spawnp(pid, *program, &actions, NULL, program, environ);
	posix_spawn_file_actions_destroy(&actions);
	return error;
}

static int task_program(pp_task *task, const void *data, size_t size)
{
	struct order order;
	pid_t pid;
	int status;

	memcpy(&order, data, size);
	if (order.way == IN_PLACE) {
		__atomic_store_n(order.pid, getpid(), __ATOMIC_SEQ_CST);
		become_program(&order);
	}
	if (start_program(&order, &pid))
		return 1;
	__atomic_store_n(order.pid, pid, __ATOMIC_SEQ_CST);
	return waitpid(pid, &status, 0) == pid && status == 0 ? pp_return(task, NULL, 0) : 2;
}

static bool is_program(void *pid)
{
	char path[64], name[32] = "";
	FILE *file;

	snprintf(path, sizeof path, "/proc/%ld/comm", __atomic_load_n((long *)pid, __ATOMIC_SEQ_CST));
	file = fopen(path, "re");
	if (!file)
		return false;
	if (!fgets(name, sizeof name, file))
		*name = 0;
	fclose(file);
	return strcmp(name, "head\n") == 0;
}

static void look_at_program(const struct order *order, const pp_executor *ex)
{
	support_until(is_program, order->pid, "executed");
	assert_holds_nothing((pid_t)*order->pid, ex);
	ck_assert_int_eq(holding_of((pid_t)*order->pid, ex).pidfds, 0);
	gate_open(&order->gate, 1);
	gate_await(&order->gate, 1);
}

/* A worker that became another program is killed once that is seen; so the supervisor sleeps while it is looked at. */
START_TEST(programs_inherit_nothing)
{
	struct order order = { .way = (enum way)(_i % WAYS), .pid = support_counters(1) };
	pp_future *future;
	pp_executor *ex;
	pid_t supervisor;

	gate_make(&order.gate);
	ex = make(_i / WAYS);
	supervisor = support_supervisor();
	future = support_submit(ex, task_nothing, NULL, 0);
	support_assert_returned(future, NULL, 0);
	pp_future_free(future);
	if (order.way == IN_PLACE)
		kill(supervisor, SIGSTOP);
	future = support_submit(ex, task_program, &order, sizeof order);
	look_at_program(&order, ex);
	kill(supervisor, SIGCONT);
	support_assert_kind(future, order.way == IN_PLACE ? PP_EXITED : PP_RETURNED);
	pp_future_free(future);
	pp_executor_free(ex);
	gate_destroy(&order.gate);
	support_counters_free(order.pid, 1);
}
END_TEST

START_TEST(programs_of_application_inherit_nothing)
{
	struct order order = { .way = (enum way)(_i % IN_PLACE), .pid = support_counters(1) };
	pp_executor *ex;
	pid_t pid;

	gate_make(&order.gate);
	ex = make(_i / IN_PLACE);
	ck_assert_int_eq(start_program(&order, &pid), 0);
	*order.pid = pid;
	look_at_program(&order, ex);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	pp_executor_free(ex);
	gate_destroy(&order.gate);
	support_counters_free(order.pid, 1);
}
END_TEST

/* ---- other pools, other processes */

struct peek { void *address; struct gate gate; };

/* Whether this process can read what is at the other pool's place. */
static int task_peek(pp_task *task, const void *data, size_t size)
{
	struct peek peek;
	char bytes[64];
	struct iovec to = { bytes, sizeof bytes }, from;
	int readable;

	memcpy(&peek, data, size);
	from = (struct iovec){ peek.address, sizeof bytes };
	readable = process_vm_readv(getpid(), &to, 1, &from, 1, 0) > 0;
	gate_pass(&peek.gate);
	return pp_return(task, &readable, sizeof readable);
}

static void assert_apart(pp_executor *ex, const pp_executor *foreign, const struct gate *gate)
{
	struct peek peek = { .address = foreign->segment.shared.base, .gate = *gate };
	pp_future *future = support_submit(ex, task_peek, &peek, sizeof peek);
	int readable = 0;
	pid_t pid = 0;

	gate_await(gate, 1);
	ck_assert_int_ge(pp_executor_workers(ex, &pid, 1), 1);
	assert_holds_nothing(pid, foreign);
	assert_holds_nothing(ex->supervisor.pid, foreign);
	ck_assert_int_ge(holding_of(pid, ex).mappings, 1);
	ck_assert_int_eq(holding_of(pid, ex).fds, 0);
	gate_open(gate, 1);
	support_assert_returned(future, &readable, sizeof readable);
	pp_future_free(future);
}

/* Whichever was made first, and for workers that are started after both were. */
START_TEST(pools_are_apart)
{
	int how = DIE_KILL;
	struct gate gate;
	pp_executor *a, *b;

	gate_make(&gate);
	a = make(_i);
	b = make(_i);
	for (int i = 0; i < 2; i++) {
		pp_future *dying = support_submit(a, task_die, &how, sizeof how);
		assert_apart(b, a, &gate);
		support_assert_kind(dying, PP_CRASHED);
		pp_future_free(dying);
		assert_apart(a, b, &gate);
	}
	pp_executor_free(a);
	pp_executor_free(b);
	gate_destroy(&gate);
}
END_TEST

START_TEST(fork_of_application_holds_nothing)
{
	pp_executor *ex = make(_i);
	struct gate gate;
	pid_t pid;

	gate_make(&gate);
	pid = fork();
	if (pid == 0)
		_exit(gate_pass(&gate));
	ck_assert_int_gt(pid, 0);
	gate_await(&gate, 1);
	assert_holds_nothing(pid, ex);
	gate_open(&gate, 1);
	ck_assert_int_eq(waitpid(pid, NULL, 0), pid);
	pp_executor_free(ex);
	gate_destroy(&gate);
}
END_TEST

/* ---- forks of forks keep their memory */

/* Where the other pool's memory is in the parent, a worker has nothing, so its own memory may well come to be there. */
static int task_fork_with_memory(pp_task *task, const void *data, size_t size)
{
	char *wanted, *got;
	int status;
	pid_t pid;

	memcpy(&wanted, data, size);
	got = mmap(wanted, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (got != wanted)
		return 1;
	*got = 'm';
	pid = fork();
	if (pid == 0)
		_exit(*got == 'm' ? 0 : 1);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return 2;
	munmap(got, 4096);
	return pp_return(task, &status, sizeof status);
}

START_TEST(fork_of_task_keeps_memory)
{
	pp_executor *a = make(0), *b = make(0);
	char *place = a->segment.shared.base;
	pp_future *future = support_submit(b, task_fork_with_memory, &place, sizeof place);
	int status = 0;

	support_assert_returned(future, &status, sizeof status);
	pp_future_free(future);
	pp_executor_free(a);
	pp_executor_free(b);
}
END_TEST

static Suite *make_suite(void)
{
	Suite *suite = suite_create("lockout");
	TCase *tcase = support_tcase(suite, "lockout");

	if (support_under_valgrind()) {
		support_skip("all of them", "valgrind has descriptors and mappings of its own");
		return suite;
	}
	tcase_add_loop_test(tcase, object_has_no_name, 0, CONFIGS);
	tcase_add_loop_test(tcase, programs_inherit_nothing, 0, CONFIGS * WAYS);
	tcase_add_loop_test(tcase, programs_of_application_inherit_nothing, 0, CONFIGS * IN_PLACE);
	tcase_add_loop_test(tcase, pools_are_apart, 0, CONFIGS);
	tcase_add_loop_test(tcase, fork_of_application_holds_nothing, 0, CONFIGS);
	tcase_add_test(tcase, fork_of_task_keeps_memory);
	return suite;
}

SUPPORT_MAIN(make_suite)
