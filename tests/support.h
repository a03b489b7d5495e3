/* SPDX-License-Identifier: MIT */
/*
 * What every test program shares: how it reports, what it asserts after each test, and how a test meets its tasks.
 *
 * A test program is one Check suite. Its main() is SUPPORT_MAIN(suite), which prints TAP, one line per case. A case is
 * one START_TEST whose name is that of the contract; its TCase comes from support_tcase(), whose teardown asserts that
 * no child process, thread, open descriptor, mapping of shared memory or file in /dev/shm is left over.
 * Assertions are made in the parent, never in a task: a task returns a status. Tasks block on gates, never on time.
 */
#ifndef TESTS_SUPPORT_H
#define TESTS_SUPPORT_H

#include <check.h>
#include <procpool.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Every wait in a test is bounded by this: a guard against hanging, not a measure of speed. */
#define SUPPORT_GUARD_MS ((int64_t)20000)

/* Of n repetitions that no case of the contract asks for: all with PROCPOOL_TEST_ALL in the environment, else a tenth;
 * a hundredth under sanitizers and valgrind, which make everything ten times slower. At least one. */
int support_many(int n);

int support_main(int argc, char **argv, Suite *suite);
#define SUPPORT_MAIN(make_suite) \
	int main(int argc, char **argv) { return support_main(argc, argv, (make_suite)()); }

/* A test case with the checked fixture of support (leftovers) and a timeout of 60 s per test; added to the suite. */
TCase *support_tcase(Suite *suite, const char *name);

/* Reports a test that this machine cannot run, as "ok - name # SKIP reason"; the test is then not added. */
void support_skip(const char *test_name, const char *reason);
bool support_under_valgrind(void);
bool support_sanitized(void);            /* built with ASan or TSan */

/* An executor with n workers, no grace for those that are killed, and otherwise default options; asserts that it could be
 * made. */
pp_executor *support_executor(int n);
pp_options support_options(int n);
pp_executor *support_create(const pp_options *options);
pp_future *support_submit(pp_executor *executor, pp_fn *fn, const void *data, size_t size);
pp_future *support_submit_named(pp_executor *executor, const char *name, pp_fn *fn, const void *data, size_t size);
pid_t support_run_for_pid(pp_executor *executor);        /* runs a task: in which worker it did */
/* Waits at most the guard for the outcome, and asserts that it is there. */
const pp_outcome *support_outcome(pp_future *future);
/* Asserts that the future returned exactly these bytes. */
void support_assert_returned(pp_future *future, const void *data, size_t size);
void support_assert_kind(pp_future *future, int kind);
/* Waits at most the guard until condition(context) holds, and asserts that it does. Looks every ms. */
void support_until(bool (*condition)(void *), void *context, const char *what);
void support_until_running(pp_future *future);

/*
 * A gate is a pair of pipes made before the executor, so that its workers inherit it. A task that calls gate_pass in a
 * worker tells that it has arrived and blocks until the parent lets one through.
 */
struct gate { int arrive[2], pass[2]; };
void gate_make(struct gate *gate);
void gate_destroy(struct gate *gate);
int  gate_pass(const struct gate *gate);                 /* in a task: 0, or an errno; never asserts */
void gate_await(const struct gate *gate, int n);         /* in the parent: until n tasks have arrived */
void gate_open(const struct gate *gate, int n);          /* lets n tasks through */

/* Shared counters, mapped before the executor is made, that tasks may write (atomic adds of long). */
long *support_counters(size_t n);
void support_counters_free(long *counters, size_t n);

/* Common tasks. */
int task_echo(pp_task *task, const void *data, size_t size);      /* returns its argument */
int task_pid(pp_task *task, const void *data, size_t size);       /* returns getpid() as pid_t */
int task_nothing(pp_task *task, const void *data, size_t size);   /* returns zero bytes */
int task_raise(pp_task *task, const void *data, size_t size);     /* raises 7, "raised on purpose" */
int task_gate(pp_task *task, const void *data, size_t size);      /* data is a struct gate; passes it, then echoes */

/* Ways to die, in a file of its own that is built without sanitizers. data of task_die is an int, enum death. */
enum death {
	DIE_SEGV, DIE_ABRT, DIE_KILL, DIE_FPE, DIE_BUS, DIE_ILL, DIE_STACK, DIE_EXIT0, DIE_EXIT99, DIE__EXIT, DIE_QUICK_EXIT,
	DIE_PTHREAD_EXIT, DIE_EXEC, DIE_HEAP, DIE_CHILD_RETURNS /* a forked child of the task returns from it */
};
int task_die(pp_task *task, const void *data, size_t size);

/* The children (all processes whose ancestor is this one or that hold its shared memory): pids of the supervisor and
 * the workers of an executor, found through /proc. Returns how many. */
size_t support_pool_processes(pid_t *pids, size_t n);
pid_t support_supervisor(void);          /* of the only executor; asserts that there is one */

/* How much memory the only executor's segment has; -1: the kernel does not let us look. */
int64_t support_shared_bytes(void);

#endif
