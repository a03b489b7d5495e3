/* SPDX-License-Identifier: MIT */
/*
 * procpool: futures on crash-proof worker processes.
 *
 * A parent process creates an executor; the executor forks worker processes that run C functions on bytes. When such
 * a function crashes, exits or is killed, its caller gets an error on that one future, and everything else goes on.
 *
 * CONVENTIONS
 *  - Calls return 0 or a count, or a negative errno. Predicates return bool and cannot fail.
 *    What became of a task is in its pp_outcome, never in a return code.
 *  - Times are int64_t milliseconds on CLOCK_MONOTONIC: PP_FOREVER (-1) waits for ever, 0 only looks, other negative
 *    values are -EINVAL. A signal handler that returns never ends a wait (no call returns -EINTR).
 *  - In options structs 0 is always the default; where "none" differs from the default it is PP_NONE (-1).
 *    Everything that an option points to is copied before the call returns.
 *  - Any thread may call anything, except as noted. No call is a pthread cancellation point, and none is
 *    async-signal-safe. Memory comes from plain malloc; there are no allocator hooks.
 *  - After the application's own fork() the child may only call the *_free functions on what it inherited; every
 *    other call there returns -ECHILD (predicates: false, pointers: NULL) and touches nothing shared; only pp_version,
 *    pp_strerror and pp_kind_name work as ever. What an outcome points to must not be read there. The same holds inside
 *    a worker: there is no nested submit.
 *  - An object must not be freed while another thread is inside a call on it. NULL is legal for *_free, for
 *    predicates, and in arrays given to pp_wait and pp_as_completed; elsewhere it is -EINVAL.
 *  - Functions of the task side (pp_task_*, pp_return*, pp_raise*) are for the thread that runs the task.
 *  - The library prints nothing (but a line before the abort of a pp_executor_free that is not allowed), and changes no
 *    signal handler, umask, working directory or environment of the application. It reaps no child but its own: with a
 *    live executor wait(NULL) is -1/ECHILD, unless the application is init or a child subreaper, whose child the
 *    supervisor then is. What the application can notice is one SIGCHLD during pp_executor_create.
 */
#ifndef PROCPOOL_H
#define PROCPOOL_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/types.h>
#include <sys/uio.h>

#define PP_VERSION_MAJOR 0
#define PP_VERSION_MINOR 1
#define PP_VERSION_PATCH 0
#define PP_VERSION ((PP_VERSION_MAJOR << 16) | (PP_VERSION_MINOR << 8) | PP_VERSION_PATCH)

#if defined __GNUC__
# define PP_API            __attribute__((visibility("default")))
# define PP_CHECK          __attribute__((warn_unused_result))
# define PP_FORMAT(f, a)   __attribute__((format(printf, f, a)))
#else
# define PP_API
# define PP_CHECK
# define PP_FORMAT(f, a)
#endif

#ifdef __cplusplus
extern "C" {
#endif

typedef struct pp_executor pp_executor;
typedef struct pp_future   pp_future;
typedef struct pp_walk     pp_walk;      /* as_completed */
typedef struct pp_block    pp_block;     /* shared memory that the caller owns */
typedef struct pp_map      pp_map;
typedef struct pp_task     pp_task;      /* inside a worker, for the time of one call */

#define PP_FOREVER   ((int64_t)-1)
#define PP_NONE      (-1)
#define PP_INLINE    (-2)                /* max_workers: tasks run in the caller, for a debugger; see pp_executor_create */

/*
 * An object, a struct or a scalar, as the two arguments by which bytes are passed:
 *     pp_submit(executor, fn, PP_BYTES(point), &future);          return pp_return(task, PP_BYTES(sum));
 * In C also a value that has no name: PP_BYTES((long){ 6 * 7 }).
 */
#define PP_BYTES(...) &(__VA_ARGS__), sizeof(__VA_ARGS__)

PP_API int         pp_version(void);             /* of the library that runs; compare with PP_VERSION */
PP_API const char *pp_strerror(int error);       /* of a return value of this library; static text, never NULL */

/* ------------------------------------------------------------------ executor */

/*
 * A task: runs in a worker process, in that process's main thread. data is the worker's read-only view of the bytes
 * that were submitted, aligned to 16 bytes (of a block as pp_submit_block says, and of a mutable one not read-only); it is
 * never NULL and lives until the function returns.
 * The int decides: 0 is "returned" with the bytes that pp_return stored last (nothing stored: zero bytes), anything
 * else is "raised" with that code.
 */
typedef int pp_fn(pp_task *task, const void *data, size_t size);

/* Runs in the parent, once, when the future is done: see pp_future_add_done_callback. */
typedef void pp_callback(pp_future *future, void *context);

/* level is a syslog(3) priority (LOG_INFO for restarts, LOG_WARNING for repairs, LOG_ERR when the pool breaks). text is
 * one line without newline, valid until the function returns. Runs where callbacks run. */
typedef void pp_log_fn(int level, const char *text, void *context);

enum pp_flags {                          /* pp_options.flags */
	PP_START_ALL     = 1u << 0,      /* create returns when all workers have run the initializer; fails if one cannot */
	PP_SELF_DISPATCH = 1u << 1,      /* callbacks run in pp_executor_dispatch only; no thread but for the waits of
	                                    pp_wait and pp_as_completed on several executors at once */
	PP_MEMFD_ONLY    = 1u << 2,      /* shared memory from memfd_create(2): not bounded by the size of /dev/shm */
	PP_SHM_ONLY      = 1u << 3,      /* shared memory from /dev/shm or not at all: none or a full one is -ENOSPC */
	PP_PASS_FDS      = 1u << 4,      /* tasks may be given descriptors; the executor keeps one of its own open for that */
	PP_PIN_EACH      = 1u << 5,      /* each worker runs on one CPU: that of its index in cpus, modulo cpu_count */
	PP_CHECKSUM      = 1u << 6,      /* of the bytes of each result, too: see below */
	PP_COPY_OUT      = 1u << 7,      /* with it: results are copied to private memory of the parent and checked there */
	PP_NO_CRASH_HANDLER = 1u << 8,   /* see pp_executor_create: workers keep the application's own */
	PP_CAPTURE       = 1u << 9,      /* keeps what tasks print, for the post-mortem: see capture_bytes */
	PP_ACCOUNTING    = 1u << 10,     /* outcomes say what each task used: costs two getrusage(2) per task, which is 1.2 us
	                                    where an empty task takes 0.1 us without (bench/price, in a virtual machine).
	                                    Known of tasks that return, raise, exit or crash; not of one that is killed or
	                                    calls _exit, nor of single items of a map's chunk */
	PP_HARDENED      = 1u << 11      /* what workers share is read-only while they run code of the application: see below */
};

/*
 * PP_CHECKSUM. How long a result is and where it stands is always guarded by a checksum; with this so are its bytes,
 * and those of a raised error. The worker takes it when the result is complete: in pp_return of the task's own bytes,
 * and of what is written in place when the function returns. The parent compares when a call first returns the
 * outcome. Where the bytes were changed meanwhile, by a worker gone wild, the outcome is PP_RAISED with -EBADMSG, and
 * never wrong bytes. Of a map each item has its own. Each side reads the bytes once more, at some 10 GB/s.
 *   What is read in place can still be overwritten after that. With PP_COPY_OUT, too, a result above 16 bytes is first
 * copied into memory from malloc, which lives as long as its outcome, and what is compared is the copy: then its bytes
 * change no more, for the price of that copy. A block made of it by pp_future_block is the shared memory itself all
 * the same.
 *   -EINVAL: PP_COPY_OUT alone. -ENOTSUP: the library was built without checksums.
 */

/*
 * PP_HARDENED. Without it a task with a wild pointer can write over what other tasks of the pool need to end rightly. With
 * it all shared memory is read-only in a worker while a function of the application runs there (task, initializer,
 * finalizer, round, each item of a map's chunk), so that such a write is the writer's own SIGSEGV: every other future
 * ends as it would have, and its task runs at most once. What a task may write are room of pp_return_alloc and its own
 * mutable block; these begin at pages of their own, and a block takes whole pages. Room up to 256 bytes, and that of an
 * item of a chunk, is private memory until the function returns; -ENOMEM and -ENOSPC are then told of at the end.
 *   It costs four mprotect(2) per task, some more for a result above 16 bytes, and two per call of pp_task_progress: in
 * a virtual machine an empty task took 0.14 us without, and 9 us more with it (15 to 30 while the machine was busy)
 * (bench/price). Protection keys are not used.
 *   It is against accidents: a task can call mprotect itself, or write over the library's private memory in its own process.
 * A thread that is still there when its task has returned can write while the library's code runs. What was published stays
 * readable to all workers. -EINVAL with PP_INLINE.
 */

/*
 * What a worker process may use, as setrlimit(2) has it, for all that it does in its life and not for each task (with
 * max_tasks_per_worker 1 that is the same). 0: as inherited; PP_NONE: nothing; a hard limit that is lower stays. What
 * goes beyond is an error in the task, or its end: malloc returns NULL, open fails with EMFILE; file_size ends it by
 * SIGXFSZ, cpu_seconds by SIGXCPU, and a second later, where that is blocked, by SIGKILL.
 */
typedef struct pp_limits {
	int64_t     address_space;       /* bytes beyond what a worker starts with, which is what the library has reserved and
	                                    what the program had mapped */
	int64_t     data;                /* bytes of private memory, including what is inherited */
	int64_t     cpu_seconds;
	int64_t     file_size;           /* bytes */
	int64_t     open_files;          /* descriptor numbers below this, including those inherited */
	int64_t     core_size;           /* bytes; PP_NONE also where core_pattern(5) names a program */
	/* Not the kernel's. Both count private memory that is resident, beyond what the worker had when it was ready. */
	int64_t     growth_bytes;        /* a worker that has grown by more when a task has ended is replaced before the next */
	int64_t     resident_bytes;      /* a task whose worker has more while it runs is killed, and ends as PP_MEMORY; looked at
	                                    every 10 ms, so what grows fast may have more by then */
} pp_limits;

typedef struct pp_options {              /* no implicit padding; grows at the end only */
	size_t      size;                /* sizeof(pp_options); see PP_OPTIONS_INIT */
	int32_t     max_workers;         /* 1 to 256; PP_INLINE; 0: as many as CPUs in the calling thread's affinity mask */
	uint32_t    flags;               /* enum pp_flags */
	uint64_t    max_pending;         /* futures not done at any time, beyond which submit waits; 0: no bound but memory */
	uint64_t    max_tasks_per_worker;/* a worker is replaced after so many tasks; 0: never */
	int32_t     start_attempts;      /* failures in a row to start a worker, at which the pool breaks; 0: 3 */
	uint32_t    reserved;            /* 0 */
	pp_fn      *initializer;         /* runs first in every worker; NULL: none. Non-zero, or pp_raise: see broken below */
	const void *initializer_data;    /* copied */
	size_t      initializer_size;
	pp_fn      *finalizer;           /* runs last in a worker that ends in good order; its data is the initializer's */
	pp_log_fn  *log;                 /* NULL: no log */
	void       *log_context;
	uint64_t    max_bytes;           /* of arguments (but small ones) and blocks that were not freed, beyond which submit
	                                    waits; each counts in multiples of 64. What a task with time limits or retries
	                                    needs (64, and 40 per retry) counts too, but alone never waits; results do not
	                                    count; 0: no bound but memory */
	/* What workers have around them; each but nice: NULL or 0 is what the caller has as of create. */
	const char *name;                /* as ps(1) and top(1) show it: 15 bytes are kept; NULL: "procpool" */
	const char *working_directory;
	const char *const *environment;  /* "NAME=value", the last is NULL */
	const int32_t *cpus;             /* numbers of CPUs on which they run; one that has none of them cannot be started */
	uint32_t    cpu_count;
	int32_t     nice;                /* -39 to 39, added to the caller's; below 0 takes a privilege to be started at all */
	pp_limits   limits;
	uint64_t    capture_bytes;       /* how many of the last bytes that a task printed its post-mortem has, at most 65536;
	                                    0: 4096 with PP_CAPTURE, else what it prints goes where the caller's goes */
	int64_t     grace_ms;            /* between the steps by which a task is stopped: see pp_future_kill; 0: 1000;
	                                    PP_NONE: SIGKILL at once */
	int64_t     timeout_ms;          /* of tasks that do not say; 0: none */
	int64_t     deadline_ms;         /* likewise */
	int64_t     idle_timeout_ms;     /* a worker that had no task for so long ends, the last one too; 0: never */
} pp_options;

#ifdef __cplusplus
} static inline pp_options pp_options_default() { pp_options o = pp_options(); o.size = sizeof o; return o; }
extern "C" {
# define PP_OPTIONS_INIT pp_options_default()
#else
# define PP_OPTIONS_INIT { .size = sizeof(pp_options) }
#endif

/*
 * Creates an executor: maps its shared memory and forks its supervisor process. Workers are started on demand, idle
 * ones are used again. Workers see the memory, code and open files as of this call: code that is dlopen'ed and
 * globals that are set later do not exist there. The memory of other threads is copied as it stands, so locks of the
 * application that they hold at this moment stay locked in the workers: create early, before threads and before
 * large heaps (a fork costs about 20 ms per GiB of touched heap). What stdout and stderr have buffered is discarded
 * in the workers; flush FILEs of your own first.
 *
 * Workers: stdin is /dev/null; signal dispositions are the default ones, but SIGINT, which does nothing (a Ctrl-C
 * is for the parent to decide); no signal is blocked; each is the leader of its own process group. Exit handlers of the
 * application never run in them, but for those of at_quick_exit when a task calls quick_exit. They end with
 * the executor, and at the latest, by SIGKILL and with all their descendants, when the parent process ends or is
 * killed: what waits then is dropped and what runs is killed, so call pp_executor_shutdown first. When memory runs
 * short the kernel takes a worker before anything else of the program: their oom_score_adj is 800 at least, the
 * supervisor's 200 above the caller's, which stays as it is.
 *
 * What a task forks belongs to its worker, and is killed when that ends, with the task or later, also where it has made a
 * session of its own, ignores signals or has left its parent. It has nothing of the shared memory: where data was, it meets
 * SIGSEGV, so it has to copy before the fork what it needs; and it must not call this library. One that returns from the
 * task's function ends there.
 *
 * A task that dies of SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP or SIGSYS meets a handler of the library, which
 * ends the future, saves what a post-mortem needs, and then takes the default action: cores are dumped as ever. With
 * PP_NO_CRASH_HANDLER there is none, and for these signals workers keep the dispositions that the application had, its own
 * crash reporter for one: the future ends when the kernel reports the death, without registers, fault address and backtrace.
 *
 * With PP_CAPTURE, or capture_bytes, stdout and stderr of a worker are one file in memory, the last bytes of which are
 * in the post-mortem of a task that took the worker with it; otherwise what tasks print is dropped. stdout then is written
 * out line by line, and each task costs one or two system calls more. Some MiB are kept at most, however much is printed;
 * all of it counts against RLIMIT_FSIZE.
 *
 * The pool is broken when no worker can be started any more: with no other alive, fork or the setting up of what
 * was forked (no such working_directory, say) fails start_attempts times in a row; the initializer crashes or returns an
 * error so often in a row, or returns one while no other worker lives; or the supervisor is gone. Then every future not
 * done ends as PP_BROKEN, and every later submit is -EPIPE. Deaths of workers elsewhere never break the pool; when they come
 * before the first task of a worker, one after the other, the next start waits, from 10 ms on twice as long each time, up to
 * 0.64 s.
 *
 * Debug mode: with max_workers PP_INLINE there is no other process. A submit runs its task in the calling thread before it
 * returns, one task at a time; initializer and finalizer run in create and free. All other calls work as ever, so a
 * program needs no change to be stepped through with a debugger: results, errors, maps, blocks, descriptors, callbacks,
 * waits. But a task that crashes or exits takes the program with it; tasks see and change the program's own memory and
 * files; time limits, retries, priorities and what options say of worker processes do nothing; a kill only raises the flag of a
 * task; pp_executor_pause, _resume and _resize are -ENOTSUP. A submit from within a task is -ECHILD, as in a worker.
 *
 * options may be NULL. *executor is NULL after a failure, and nothing is left behind.
 * 0; -EINVAL (executor NULL; an option out of its range, a flag or a field that this version does not know, an
 * initializer outside the known code); -ENOMEM; -ENOSPC (shared memory is full); -EFBIG (RLIMIT_FSIZE is below what the
 * shared memory needs); -EMFILE, -ENFILE (no descriptor); -EAGAIN (no process or no memory for one); -ECANCELED
 * (PP_START_ALL, and the initializer failed; where a worker cannot be given its surroundings, what that failed with); -EPIPE (the
 * supervisor died while starting); -ENOTSUP (PP_CHECKSUM, as said there); -ECHILD (in a worker).
 */
PP_CHECK PP_API int pp_executor_create(pp_executor **executor, const pp_options *options);

enum pp_shutdown {
	PP_SHUTDOWN_WAIT           = 1u << 0,    /* until every future is done, every callback ran, every process is gone */
	PP_SHUTDOWN_CANCEL_PENDING = 1u << 1,    /* cancels what has not started, further attempts included */
	PP_SHUTDOWN_KILL           = 1u << 2     /* stops what runs, as pp_future_kill does */
};

/*
 * No more submits from here on: they return -ESHUTDOWN. What was submitted still runs, unless flags say otherwise.
 * Without PP_SHUTDOWN_WAIT it returns at once, whatever timeout_ms is. With it, in self-dispatch mode, the callbacks
 * still to come run here. Idempotent, from any thread, also with other flags than before.
 * 0; -ETIMEDOUT (goes on in the background; call again); -EDEADLK (WAIT from one of its own callbacks: it is shut down,
 * but not waited for); -EINVAL (NULL, unknown flags, a bad time); -ECHILD.
 */
PP_API int  pp_executor_shutdown(pp_executor *executor, unsigned flags, int64_t timeout_ms);

/*
 * pp_executor_shutdown(WAIT) for ever, then gives up the handle; its futures and their outcomes stay valid. NULL is
 * legal. Not from one of the executor's own callbacks (an assertion that is kept in every build). In a forked child it
 * does nothing.
 */
PP_API void pp_executor_free(pp_executor *executor);

/*
 * Pauses: no task is started until pp_executor_resume; what runs goes on, submits and cancels work as ever, workers are
 * started and replaced. Of the tasks submitted before, one that a worker takes at this very moment may still start.
 * pp_executor_shutdown resumes, after it has cancelled with PP_SHUTDOWN_CANCEL_PENDING.
 * Both are idempotent and do not wait. 0; -ESHUTDOWN; -ENOTSUP (PP_INLINE); -EINVAL; -ECHILD.
 */
PP_API int  pp_executor_pause(pp_executor *executor);
PP_API int  pp_executor_resume(pp_executor *executor);

/*
 * Runs fn once in every worker that lives, the spare included, a busy one after its task: to warm up what each process has of
 * its own. fn has a task's shape, but no future: what it returns but the int, and raises, goes nowhere. With
 * PP_START_ALL that is every worker; one that starts later does not run it: that is for the initializer. One that dies in it
 * is replaced, and no future fails for it. data are copied. Waits until all have run it; threads take turns.
 * Returns in how many workers fn returned 0. -ETIMEDOUT: those that have not come to it run it later, and another call waits
 * for these first. -EINVAL; -EFAULT (as of pp_submit); -ENOMEM, -ENOSPC; -ESHUTDOWN; -EPIPE; -ECHILD.
 */
PP_API int  pp_executor_run_on_workers(pp_executor *executor, pp_fn *fn, const void *data, size_t size,
                                       int64_t timeout_ms);

/* Stores the pids of at most n live workers (not of a spare); pids may be NULL when n is 0. Returns how many live;
 * -EINVAL, -ECHILD. A pid may be gone when this returns. */
PP_API int  pp_executor_workers(pp_executor *executor, pid_t *pids, size_t n);

/* Ends all workers by SIGTERM or SIGKILL: running futures end as PP_KILLED, the workers are replaced. Does not wait; a
 * worker that has begun another task meanwhile is spared.
 * 0; -EINVAL (NULL, another signal), -ECHILD. */
PP_API int  pp_executor_signal(pp_executor *executor, int signal);

/*
 * Changes max_workers, to 1 to 256. More: they are started on demand, also for what waits already (with PP_START_ALL at
 * once, and not waited for). Fewer: those with the highest indices end, each at once when it is idle, else after its task;
 * no task is lost or stopped. Does not wait.
 * 0; -EINVAL; -ENOMEM, -ENOSPC (no shared memory for more); -ENOTSUP (PP_INLINE); -ESHUTDOWN; -EPIPE; -ECHILD.
 */
PP_API int  pp_executor_resize(pp_executor *executor, int workers);

/* NULL while the pool works, else an outcome of kind PP_BROKEN that says why; lives as long as the executor. */
PP_API const struct pp_outcome *pp_executor_broken(pp_executor *executor);

/* A descriptor that is readable (level triggered) while a callback waits to run or the pool has broken. It belongs to
 * the executor: poll it, never read or close it. -ENOTSUP without PP_SELF_DISPATCH; -EINVAL; -ECHILD. */
PP_API int  pp_executor_fd(pp_executor *executor);

/* Runs at most max callbacks (0: all that wait now) in this thread and returns how many ran; never blocks.
 * -ENOTSUP without PP_SELF_DISPATCH; -EDEADLK from within a callback; -EINVAL; -ECHILD. */
PP_API int  pp_executor_dispatch(pp_executor *executor, unsigned max);

/* ------------------------------------------------------------------ submit */

/*
 * Descriptors for a task: of an executor with PP_PASS_FDS. The caller may close its own when submit has returned; they
 * refer to the same open files (offset, O_NONBLOCK). The task finds them by pp_task_fd under numbers of its own. They are
 * close-on-exec and are closed when the task ends, before anybody hears of that (but a worker that is being forked
 * meanwhile has copies for a moment); those of a task that dies or never starts soon after that. Until the task starts the
 * supervisor process keeps them, within its RLIMIT_NOFILE, which is the caller's as of pp_executor_create: where it, or
 * the worker, has no room, the task ends as raised with -EMFILE, and its function is not called (likewise with -ENOTCONN,
 * when an earlier task closed the worker's way to them). Not for pp_map_create (-EINVAL).
 */
#define PP_TASK_FDS_MAX 64

/*
 * TIME. timeout_ms bounds how long a task runs, deadline_ms how long it waits and runs. When the time of one that runs is
 * over it is stopped as pp_future_kill says, and ends as PP_TIMED_OUT unless it published its end before the first signal;
 * one that has not started by its deadline ends as PP_TIMED_OUT with attempt 0. Nobody has to wait for it. Whatever the
 * task does, blocks or ignores, its worker is gone after twice grace_ms, and another one takes its place.
 * Times are those of CLOCK_MONOTONIC, which goes on while the job is stopped. They are kept to the millisecond or so.
 *
 * RETRIES. A task is started once, unless it asks for more: after an attempt that ends as retry_on says, and while any of
 * retries is left, it is pending again, and is started anew, on the same argument, retry_delay_ms later (twice as long with
 * each attempt, at most retry_delay_max_ms, and up to a quarter less by chance, so that many do not come back at once).
 * The future ends with its last attempt; outcome->attempt and outcome->earlier tell of all. A task that takes its worker
 * with it each time is thus never run more than retries + 1 times. A deadline counts over all attempts, a timeout for each.
 * Descriptors are kept for all attempts.
 */
#define PP_ON(kind)    (1u << (kind))
#define PP_RETRIES_MAX 1000

typedef struct pp_task_options {         /* no implicit padding; grows at the end only */
	size_t      size;                /* sizeof(pp_task_options) */
	const char *name;                /* copied, 63 bytes are kept; NULL: "" */
	int64_t     submit_timeout_ms;   /* when max_pending or max_bytes is reached: 0: waits for ever; PP_NONE: -EAGAIN at once */
	const int  *fds;                 /* open descriptors for the task; NULL when fd_count is 0 */
	uint32_t    fd_count;            /* at most PP_TASK_FDS_MAX */
	uint32_t    retries;             /* further attempts, at most PP_RETRIES_MAX; not with a mutable block */
	int64_t     timeout_ms;          /* of each attempt, from its start; 0: the executor's; PP_NONE: none */
	int64_t     deadline_ms;         /* from submit to the end; 0: the executor's; PP_NONE: none */
	uint32_t    retry_on;            /* PP_ON() of PP_CRASHED, PP_EXITED, PP_TIMED_OUT, PP_MEMORY, PP_RAISED; 0: of the
	                                    first, the third and the fourth */
	int32_t     priority;            /* 1 high, 0 normal, -1 low */
	int64_t     retry_delay_ms;      /* before the second attempt; 0: none */
	int64_t     retry_delay_max_ms;  /* 0: no bound */
} pp_task_options;

#ifdef __cplusplus
} static inline pp_task_options pp_task_options_default()
{ pp_task_options o = pp_task_options(); o.size = sizeof o; return o; }
extern "C" {
# define PP_TASK_OPTIONS_INIT pp_task_options_default()
#else
# define PP_TASK_OPTIONS_INIT { .size = sizeof(pp_task_options) }
#endif

/*
 * Priorities: a worker takes the oldest task of the highest priority there is; one time in 16 it begins with the lowest, so
 * none waits for ever. A task whose worker died before it had started goes before all others. Nothing that runs is
 * interrupted. Of a map, task options say it for all of its tasks.
 */

/*
 * Submits fn(data, size). The bytes are copied: the caller's buffer is free again on return. data may be NULL when
 * size is 0. future may be NULL: the task then runs detached. After a failure *future is NULL and nothing was queued.
 * fn must be code that the workers have: in the program or in a library loaded before pp_executor_create.
 * Threads that submit without a pause take turns of a millisecond, as that is quicker for all: a call may sleep meanwhile,
 * some milliseconds for each of them, whatever submit_timeout_ms says.
 * 0; -EINVAL (NULL, bad options); -ENOMEM (private or shared address space), -ENOSPC (shared memory is full);
 * -ENOSPC also for an argument that is larger than max_bytes, with what its task needs beside it; an argument counts
 * until its future is freed;
 * -EAGAIN (max_pending or max_bytes is reached, and the options, or being in a callback, forbid to wait); -ETIMEDOUT (it was not
 * undercut in time); -ESHUTDOWN; -EPIPE (the pool is broken); -ECHILD (forked child or worker); -EFAULT (fn is not code
 * that the workers have). With descriptors also -ENOTSUP (no PP_PASS_FDS), -EBADF (one is not open), -EMFILE (more than
 * PP_TASK_FDS_MAX), -ENOTCONN (the application has closed the executor's own), -EINVAL (one of a kind that cannot be
 * passed), -EAGAIN and -ETIMEDOUT as above (too many are on their way to the supervisor).
 */
PP_CHECK PP_API int pp_submit(pp_executor *executor, pp_fn *fn, const void *data, size_t size, pp_future **future);
/* The same; options may be NULL. */
PP_CHECK PP_API int pp_submit_with(pp_executor *executor, const pp_task_options *options, pp_fn *fn,
                                   const void *data, size_t size, pp_future **future);
/*
 * The same for bytes that are in several places: the task sees them one behind the other, and they are copied once.
 * options may be NULL. As pp_submit; -EINVAL also for a count below 0, and for a part without memory but with a size.
 */
PP_CHECK PP_API int pp_submit_iov(pp_executor *executor, const pp_task_options *options, pp_fn *fn,
                                  const struct iovec *parts, int count, pp_future **future);

/* ------------------------------------------------------------------ blocks */

/*
 * A block is shared memory that the caller fills, and that any number of tasks get without a copy. It is counted by
 * reference: pp_block_create makes the first, each task holds one from its submit until its future has ended and is
 * freed, and the memory is free again when the last is gone. Blocks stay valid after pp_executor_free.
 *
 * Workers have a block mapped read-only from their start: a task that writes into one crashes alone (SIGSEGV). With
 * PP_BLOCK_MUTABLE they can write: such a task finds it by pp_task_argument, and can return it by pp_return_argument.
 * Mutable blocks stand beside each other where every worker can write, so a wild write of a task can hit another's; and
 * the bytes of one whose task crashed or was killed are undefined, and what is left of that worker may write there
 * until the future is freed: take another one then.
 */
enum pp_block_flags { PP_BLOCK_MUTABLE = 1u << 0 };      /* tasks may write it */

/* size may be 0. Its bytes are undefined at first, and aligned to 64 bytes. Written by the parent until the first submit;
 * later only with a lock-step of the caller's own, because tasks may read at the same time.
 * 0; -EINVAL (NULL, unknown flags); -EAGAIN (max_bytes is reached; it does not wait); -ENOMEM, -ENOSPC, -ESHUTDOWN,
 * -EPIPE, -ECHILD as of pp_submit. *block is NULL after
 * a failure. */
PP_CHECK PP_API int pp_block_create(pp_executor *executor, size_t size, unsigned flags, pp_block **block);
PP_API void    *pp_block_data(pp_block *block);
PP_API size_t   pp_block_size(const pp_block *block);    /* NULL: 0 */
PP_API pp_block *pp_block_ref(pp_block *block);          /* adds a reference, and returns block */
PP_API void     pp_block_free(pp_block *block);          /* gives up one; NULL is legal; from any thread, in callbacks too */

/*
 * Submits fn on size bytes of block from offset on, without a copy; options may be NULL. data is aligned as offset
 * is, up to 64. The reference of the caller is the caller's to free, at any time after this.
 * As pp_submit; -EINVAL also where block is NULL, or another executor's, or these bytes are not all in it.
 */
PP_CHECK PP_API int pp_submit_block(pp_executor *executor, const pp_task_options *options, pp_fn *fn, pp_block *block,
                                    size_t offset, size_t size, pp_future **future);

/*
 * The result of a future as a block, for the next task, without a copy; future may be freed at once. It is aligned to
 * 8 bytes, above 256 bytes as what returned it says (pp_return_alloc, pp_return_argument), and stands where workers
 * keep results: not read-only, but no task should write it. What was returned by pp_return_argument, if it is more
 * than 256 bytes, is a mutable block again: once a later task has written it, the outcome of this future has other
 * bytes.
 * 0; -EINVAL (NULL; future is not done, or ended otherwise than returned); -ENOMEM; -ECHILD. *block is NULL after a failure.
 */
PP_CHECK PP_API int pp_future_block(pp_future *future, pp_block **block);

/* ------------------------------------------------------------------ outcome */

enum pp_kind {
	PP_RETURNED  = 1,                /* the task returned 0: data, size */
	PP_RAISED    = 2,                /* the task's own error: code, message, data and size of its detail; -EBADMSG: its
	                                    result was overwritten in shared memory by a worker gone wild */
	PP_CRASHED   = 3,                /* its worker died by a signal: signal, signal_code, fault_address */
	PP_EXITED    = 4,                /* its worker exited: code is the status; also exec and pthread_exit (code 0) */
	PP_TIMED_OUT = 5,                /* its time was over: see pp_task_options */
	PP_KILLED    = 6,                /* by pp_future_kill, pp_executor_signal or PP_SHUTDOWN_KILL */
	PP_MEMORY    = 7,                /* its worker had more memory than limits.resident_bytes, or the kernel killed it for
	                                    want of memory: certain says whether that is known. It is by the count of the
	                                    control group; an unrequested SIGKILL without such a count is PP_CRASHED */
	PP_CANCELLED = 8,                /* before it started */
	PP_BROKEN    = 9                 /* the pool broke before it ended: code is a negative errno */
};

/* The names of registers[] in its order, which is that of DWARF: of the caller-saved ones of aarch64 some are left out. */
#if defined __x86_64__
# define PP_REGISTERS "rax rdx rcx rbx rsi rdi rbp rsp r8 r9 r10 r11 r12 r13 r14 r15 rip"
#elif defined __aarch64__
# define PP_REGISTERS "x0 x1 x2 x3 x4 x5 x6 x7 x19 x20 x21 x22 x23 x24 x25 x26 x27 x28 x29 x30 sp pc"
#else
# define PP_REGISTERS ""
#endif

typedef struct pp_outcome {              /* made by the library; reached by pointer only; grows at the end */
	int          kind;               /* enum pp_kind */
	int          code;               /* RAISED: the code; EXITED: the status; BROKEN: a negative errno; else 0 */
	const void  *data;               /* RETURNED: the result; RAISED: the detail bytes; never NULL; aligned to 8 bytes, but
	                                    what pp_return_argument returned above 256 bytes as it stands in the argument */
	size_t       size;
	const char  *message;            /* one line for people, never NULL; RAISED: the task's own, "" without one; CRASHED: signal
	                                    and code in words, such as "SIGSEGV: address not mapped at 0x10" */
	const char  *task_name;          /* never NULL */
	pid_t        pid;                /* of the worker; 0: never ran, or not known */
	int          worker;             /* its index, below max_workers; -1: never ran, or not known */
	unsigned     attempt;            /* 1 for the first; 0: never started */
	int          signal;             /* CRASHED: the signal, else 0 */
	int          signal_code;        /* CRASHED: si_code of siginfo_t where the worker could tell, else 0 */
	uintptr_t    fault_address;      /* CRASHED by SIGSEGV, SIGBUS, SIGILL, SIGFPE: si_addr, else 0 */
	uint64_t     queued_ns;          /* from submit to start; never ran: to the end. Both are right to some microseconds */
	uint64_t     running_ns;         /* from start to end; 0: never ran */
	/* CRASHED by a signal that its worker caught (SEGV, BUS, ILL, FPE, ABRT, TRAP, SYS): as of that instant. */
	uintptr_t    instruction;        /* where the thread was; 0: not known */
	const uint64_t *registers;       /* in the order of PP_REGISTERS; NULL: not known */
	unsigned     register_count;
	pid_t        thread;             /* that the signal met; pid's own is the task's; 0: not known */
	const struct pp_outcome *earlier;/* the attempt before, without its result, name, waiting time and usage, and with a
	                                    message of few words; NULL: there was none */
	int          certain;            /* MEMORY: 0: that is only likely (of earlier attempts it says nothing); else 0 */
	const void  *library;            /* the library's own */
	/* With PP_ACCOUNTING, of this task; UINT64_MAX: not known. */
	uint64_t     cpu_ns;             /* that its process used meanwhile, in all threads */
	uint64_t     peak_rss;           /* the most memory in bytes that the process ever had resident, up to the task's end */
	uint64_t     faults;             /* page faults, */
	uint64_t     switches;           /* and context switches */
} pp_outcome;

/*
 * A frame of a backtrace; the first is that of the crash, the last that in which the worker called the task. Names are
 * those of the program as it was at pp_executor_create: file and line where it, or its library, has debug information
 * (cc -g, or a separate file that is found by its build id), a function where it has at least its symbols.
 */
typedef struct pp_frame {                /* no implicit padding */
	uintptr_t    address;            /* of the instruction; of a caller: where the call returns to */
	const char  *module;             /* path of the program or the library; NULL: not known */
	uint64_t     offset;             /* address as in that file: for addr2line -e */
	const char  *function;           /* NULL: not known; of C++ in full where the program has a C++ library */
	const char  *file;               /* NULL: not known */
	int          line;               /* 0: not known */
	int          is_caller;
} pp_frame;

typedef struct pp_postmortem {           /* made by the library; reached by pointer only; grows at the end */
	int          wait_status;        /* as of waitpid(2); -1: not known */
	int          core_dumped;
	uint64_t     cpu_ns;             /* of the whole worker process, all its tasks, from the kernel: user and system */
	uint64_t     peak_rss;           /* bytes */
	uint64_t     faults;             /* page faults. These four: UINT64_MAX: not known */
	uint64_t     switches;           /* context switches */
	const pp_frame *frames;          /* never NULL */
	size_t       frame_count;        /* 0: no backtrace, see frames_note; at most 64 */
	const char  *frames_note;        /* why there are none, or where they break off; "": they are complete; static */
	const char  *output;             /* the last that the task printed, with a NUL behind it, where that is captured; never NULL */
	size_t       output_size;
} pp_postmortem;

/* The result as an object of one type: copies it, if the task returned bytes of just that size. 0; -EINVAL (NULL; another
 * kind; another size), -ECHILD, and the object is as it was. In one line: pp_outcome_value(outcome, PP_BYTES(point)). */
PP_API int  pp_outcome_value(const pp_outcome *outcome, void *object, size_t size);

PP_API const char *pp_kind_name(int kind);       /* "returned", "raised", ...; "unknown"; static */

/* One line without newline, for people and logs, as snprintf: returns the length that it has in full; -EINVAL; -ECHILD. */
PP_API int  pp_outcome_describe(const pp_outcome *outcome, char *buffer, size_t size);

/*
 * All that is known, on many lines, to be pasted into a bug report: kind, message, name, worker, times, fault address and
 * registers; earlier attempts; and where the post-mortem is there by now (it does not wait for the process to end, but makes the
 * backtrace if pp_future_postmortem has not) backtrace, core, usage and output. What is text of the task's comes as it is,
 * but for control characters in the output. For an outcome that is not a copy, while it lives.
 * 0; -EINVAL; -EIO (the stream has had an error); -ECHILD.
 */
PP_API int  pp_outcome_print(const pp_outcome *outcome, FILE *stream);

/* ------------------------------------------------------------------ future */

/*
 * Waits until the future is done. *outcome (outcome may be NULL) lives until the last reference of the future is given
 * up, also after pp_executor_free. 0; -ETIMEDOUT; -EINVAL; -ECHILD; -ENOMEM (it is done, but there is no memory for the
 * outcome: ask again). *outcome is NULL after a failure.
 */
PP_API int  pp_future_result(pp_future *future, int64_t timeout_ms, const pp_outcome **outcome);
/* The same, but *outcome is NULL when the task returned. */
PP_API int  pp_future_exception(pp_future *future, int64_t timeout_ms, const pp_outcome **outcome);

/*
 * What is known of the process that went with a task, once the kernel has taken it down: of a task that crashed, exited
 * or was killed while it ran. Waits until the future is done and the process is gone, which it is some moments later
 * (18 ms per GiB of heap; while a core is dumped, as long as that takes). The first call for a future also makes the
 * backtrace, which takes some 10 ms of this thread, more in a large program; *postmortem lives as long as the outcome.
 * 0; -ETIMEDOUT; -ENODATA (the task did not take its worker with it; or nobody saw to that process, because the pool
 * broke; or shared memory was full); -EINVAL; -ECHILD; -ENOMEM. *postmortem is NULL after a failure.
 */
PP_API int  pp_future_postmortem(pp_future *future, int64_t timeout_ms, const pp_postmortem **postmortem);

PP_API bool pp_future_done(const pp_future *future);             /* ended in whatever way, cancelled included */
PP_API bool pp_future_running(const pp_future *future);          /* a worker executes it now */
PP_API bool pp_future_cancelled(const pp_future *future);
PP_API const char *pp_future_state(const pp_future *future);     /* "pending", "running", "cancelled", "finished"; static */

/* Cancels a future whose task has not started; its callbacks run before this returns (in self-dispatch mode in
 * pp_executor_dispatch). true: it is cancelled, now or before. */
PP_API bool pp_future_cancel(pp_future *future);

/*
 * Stops a task, in steps: at once pp_task_cancelled becomes true for it; grace_ms later SIGTERM goes to its worker's process
 * group, and grace_ms after that SIGKILL. With a grace of PP_NONE SIGKILL comes at once. The future ends as PP_KILLED; but
 * what the task publishes before the first signal, or of what it dies, stands, and no further attempt follows. Never meets
 * another task. Pending, and between two attempts: as pp_future_cancel. Done: nothing happens. Does not wait. 0; -EINVAL;
 * -ECHILD.
 */
PP_API int  pp_future_kill(pp_future *future);

/*
 * callback runs once, in the parent, after the future is done and its waiters were woken, outside all locks; those
 * added before that in the order in which they were added. It may call any function of the library; only
 * pp_executor_shutdown with WAIT and pp_executor_free of its own executor are refused, and a submit in it never
 * blocks. It runs in one dispatcher thread of the executor, which starts with the first callback, with a log, or with
 * a wait on several executors at once, and has all signals blocked; where the future is cancelled, in the thread that
 * cancels; where it was done already, in this thread, at once; and in self-dispatch mode always in
 * pp_executor_dispatch. The future stays valid until the callback returns. A C++ exception must not leave it
 * (std::terminate); cancellation of the thread waits until it has returned.
 * 0; -ENOMEM; -EAGAIN (no dispatcher thread could be started; the callback was not added); -EINVAL; -ECHILD.
 */
PP_API int  pp_future_add_done_callback(pp_future *future, pp_callback *callback, void *context);

/*
 * What the running task has said last by pp_task_progress. done and total may be NULL; at most text_size bytes are stored
 * in text, with the NUL. Takes no lock and does not disturb the task. 1; 0 and zeros: it has said nothing yet, does not
 * run (any more), or could not be read because its worker was stopped while it was saying it. A further
 * attempt may show what the one before has said, until it says something; -EINVAL; -ECHILD.
 */
PP_API int  pp_future_progress(pp_future *future, uint64_t *done, uint64_t *total, char *text, size_t text_size);

/* A pointer of the caller's own, NULL at first. Not synchronized: set it before other threads see the future. */
PP_API void pp_future_set_context(pp_future *future, void *context);
PP_API void *pp_future_context(const pp_future *future);

/* Adds a reference, and returns future. */
PP_API pp_future *pp_future_ref(pp_future *future);
/* Gives up one reference. A task that is not done goes on detached and its callbacks still run. Legal in a callback of
 * this future, and on what pp_walk_next just gave. NULL is legal. */
PP_API void pp_future_free(pp_future *future);

enum pp_when { PP_ALL_COMPLETED, PP_FIRST_COMPLETED, PP_FIRST_EXCEPTION };

/*
 * Waits until all are done, or one is, or one ended otherwise than returned or cancelled (if none does: all).
 * Futures of several executors may be mixed. The array is not changed. Returns how many different futures are done,
 * also after the timeout; -EINVAL (futures is NULL and n is not 0, bad when, bad time); -ENOMEM; -ECHILD.
 */
PP_API int  pp_wait(pp_future *const *futures, size_t n, enum pp_when when, int64_t timeout_ms);

/*
 * A walk over futures in the order in which they end; those that are done come first. Keeps a reference of each until
 * pp_walk_free. timeout_ms is for the whole walk and counts from here. Duplicates are dropped. Threads may walk
 * overlapping sets, each with its own walk. 0; -EINVAL; -ENOMEM; -ECHILD. *walk is NULL after a failure.
 */
PP_CHECK PP_API int pp_as_completed(pp_future *const *futures, size_t n, int64_t timeout_ms, pp_walk **walk);
/* 1 and *future (borrowed from the walk), 0 at the end; -ETIMEDOUT; -EINVAL; -ECHILD. *future is NULL but for 1. */
PP_API int  pp_walk_next(pp_walk *walk, pp_future **future);
PP_API size_t pp_walk_left(const pp_walk *walk);         /* how many pp_walk_next has still to give */
PP_API void pp_walk_free(pp_walk *walk);                 /* at any time; NULL is legal */

/* ------------------------------------------------------------------ map */

/*
 * Gives the next input of a map: 1 and its bytes, which are copied before the source is called again; 0 at the end; a
 * negative errno to stop with that. Runs in the thread that calls pp_map_create or pp_map_next, outside all locks; it
 * must not call the latter, nor pp_map_free, for its own map. Any other code, and NULL with a size, count as -EINVAL.
 */
typedef int pp_map_source(const void **data, size_t *size, void *context);

typedef struct pp_map_options {          /* no implicit padding; grows at the end only */
	size_t      size;                /* sizeof(pp_map_options) */
	size_t      chunk;               /* items per task, at most buffer and 2^20; 0: from how long an item takes, or 1
	                                    where tasks have a timeout, a deadline or retries, which are those of an item */
	size_t      buffer;              /* items taken ahead of the one that is asked for; 0: enough for all workers */
	int64_t     timeout_ms;          /* for the whole map, from create; 0: for ever */
	uint32_t    unordered;           /* 1: results in the order in which tasks end; 0: in that of the inputs */
	uint32_t    reserved;            /* 0 */
	const pp_task_options *task;     /* of each task; NULL: the defaults; copied */
} pp_map_options;

#ifdef __cplusplus
} static inline pp_map_options pp_map_options_default()
{ pp_map_options o = pp_map_options(); o.size = sizeof o; return o; }
extern "C" {
# define PP_MAP_OPTIONS_INIT pp_map_options_default()
#else
# define PP_MAP_OPTIONS_INIT { .size = sizeof(pp_map_options) }
#endif

/*
 * Applies fn to each input of the source, in worker processes. Takes the first buffer inputs and submits them before it
 * returns; each pp_map_next takes as many more as were asked for, so an endless input, or a very long one, needs no
 * more memory than the buffer. Where inputs fit into tasks by chunks only, fewer may be taken, never more.
 *
 * Several items in one task (a chunk) make small items cheap. fn sees no difference: each item has a pp_task, a result,
 * an error and an outcome of its own, its bytes are aligned to 16, and is run at most once. Where an item takes its
 * worker with it, those before it keep their results, and those behind it, which have not started, go to another
 * worker. max_tasks_per_worker counts a chunk as one task.
 *
 * options may be NULL. The map must be freed before the executor. *map is NULL after a failure.
 * 0; -EINVAL (NULL, bad options, chunk or buffer above SIZE_MAX / 2, chunk above 1 where tasks have a timeout, a deadline
 * or retries, be it by default of the executor); -EFAULT (fn, as in pp_submit); -ENOMEM, -ENOSPC
 * (for the first task); -ESHUTDOWN; -EPIPE; -ECHILD. An error of the source comes from pp_map_next, in its place.
 */
PP_CHECK PP_API int pp_map_create(pp_executor *executor, const pp_map_options *options, pp_fn *fn,
                                  pp_map_source *source, void *context, pp_map **map);

/*
 * The next result: 1, and what became of the item with this index, counted from 0 in the order of the inputs. *outcome
 * lives until the next pp_map_next or pp_map_free of this map. index and outcome may be NULL. An item that did not
 * return is no end: the next call gives the next one. 0 at the end. For one thread at a time.
 * -ETIMEDOUT (the time is over and no result is there; what has ended in time is still given, and no input is taken any
 * more); what the source said, when everything before it was given; -ESHUTDOWN, -EPIPE: likewise, when the executor
 * was shut down or broke before the end of the inputs (what had been taken and could not run is given as PP_CANCELLED
 * or PP_BROKEN); -EAGAIN (max_pending or max_bytes is reached by others, and the task options, or being in a callback,
 * forbid to wait), -ENOMEM, -ENOSPC: may be called again; -EINVAL; -ECHILD. *outcome is NULL but for 1. An item that is
 * larger than max_bytes does not run: it is given as PP_RAISED with the code -ENOSPC, and the map goes on.
 */
PP_API int  pp_map_next(pp_map *map, uint64_t *index, const pp_outcome **outcome);

/* How many items have ended, in whatever way, given or not, and how many were taken from the source. Either may be
 * NULL. From any thread at any time until pp_map_free. 1: the source has ended, total is final; 0: not yet; -EINVAL;
 * -ECHILD. */
PP_API int  pp_map_progress(const pp_map *map, uint64_t *done, uint64_t *total);

/* Ends it at any time: cancels what has not started, also of chunks that run; an item that runs goes on detached.
 * Does not wait. NULL is legal. */
PP_API void pp_map_free(pp_map *map);

/*
 * The plain form: n items of in_size bytes each, one behind the other, and room for n results of out_size. Where an
 * item returned out_size bytes they are stored in its place in out; otherwise that place is left as it was. kinds
 * (may be NULL) gets what became of each (enum pp_kind; PP_RAISED also for a result of another size; 0: not come to).
 * Returns when all have ended: how many did not return what they should, or a negative errno as pp_map_create and
 * pp_map_next; -EINVAL also when an array is NULL that has bytes.
 */
PP_CHECK PP_API int64_t pp_map_array(pp_executor *executor, pp_fn *fn, const void *in, size_t in_size, void *out,
                                     size_t out_size, size_t n, int *kinds);

/* ------------------------------------------------------------------ statistics */

typedef struct pp_stats {                /* no implicit padding; grows at the end only */
	size_t   size;                   /* sizeof(pp_stats), set by the caller: see PP_STATS_INIT */
	uint64_t submitted;              /* futures so far, detached ones and the tasks of maps included */
	uint64_t pending, running;       /* of those that have not ended */
	uint64_t outcomes[16];           /* of those that have: how many, by enum pp_kind */
	uint32_t workers;                /* that live, without the spare */
	uint32_t busy;                   /* of those, how many have a task at hand */
	uint32_t spare;                  /* 1: a spare is there, or is being started */
	uint32_t restarts;               /* workers that were started after others had ended, in whatever way */
	uint64_t shared_bytes;           /* shared memory in use, as the supervisor saw it last: when it had something to do,
	                                    and every 100 ms while tasks run */
	uint64_t queue_ns[64];           /* of tasks that have started: how many waited from 2^i to less than 2^(i+1) ns */
	uint64_t run_ns[64];             /* of those that have run and ended: how long they ran; 0 ns counts in bucket 0 */
} pp_stats;

#ifdef __cplusplus
} static inline pp_stats pp_stats_default() { pp_stats s = pp_stats(); s.size = sizeof s; return s; }
extern "C" {
# define PP_STATS_INIT pp_stats_default()
#else
# define PP_STATS_INIT { .size = sizeof(pp_stats) }
#endif

/*
 * Fills in *stats, at any time until pp_executor_free. Stops and locks nothing: the numbers are of slightly different
 * instants, and agree when nothing happens. It costs some 10 ns for each future of the most that ever existed at once.
 * A future that pp_future_result gives as returned or raised has been counted before; other ends may be counted a
 * moment later than they are seen. Each process counts for itself, so one that is killed in the middle of it may have
 * counted one too many or too few, and what workers count they can also overwrite. A chunk of a map is one task here,
 * which ran as long as all of it.
 * 0; -EINVAL (NULL, or size is not set); -ECHILD.
 */
PP_API int  pp_executor_stats(pp_executor *executor, pp_stats *stats);

/* ------------------------------------------------------------------ in the task */

/* Stores the result; copies. The last call wins. data must not stand in room of pp_return_alloc, which ends here: what is
 * in there already needs pp_return_commit alone. 0; -ENOMEM (address space or no room), -ENOSPC, -EINVAL (task NULL, or
 * data NULL and size not 0). After a failure the task ends as raised with that code, whatever it returns. */
PP_API int   pp_return(pp_task *task, const void *data, size_t size);

/*
 * Result in place, without a copy: room for size bytes in the memory where the parent will read them. They are the
 * result from here on, unless a later pp_return, pp_return_alloc or pp_raise takes its place, which ends the room. What
 * is in it at first is undefined; write all of it, or shrink it. Aligned to 16 bytes, above 256 bytes to 4096, but in an
 * item of a map's chunk to 16. Killed while it writes, the task costs its own future and nothing else.
 * NULL: as a pp_return that failed (-ENOMEM, -ENOSPC), and the task ends as raised with that code, whatever it returns;
 * or there is no use for a result: task is NULL, in the initializer and the finalizer, and after a pp_raise.
 */
PP_API void *pp_return_alloc(pp_task *task, size_t size);
/* Shrinks what pp_return_alloc gave to its first size bytes; what they do not need is free for other results at once (of an
 * item of a map's chunk: for its other items).
 * Up to 256 bytes the result may move: write no more then. 0; -EINVAL (task NULL; no room given; larger than that; the
 * task then ends as raised with that code); -ENOMEM, -ENOSPC. 0 and no effect where pp_return_alloc gives nothing. */
PP_API int   pp_return_commit(pp_task *task, size_t size);

/* The argument as memory that the task may write; *size (size may be NULL) is its size. NULL and 0 unless it was
 * submitted as a mutable block. */
PP_API void *pp_task_argument(pp_task *task, size_t *size);
/* Returns size bytes of that argument from offset on. Above 256 bytes nothing is copied, and they are what stands there when
 * the function returns; up to that it is as pp_return of them now. The last call wins, as of pp_return. 0; -EINVAL (task
 * NULL, no mutable block, or not all of it in there; the task then ends as raised with that code). Up to 256 bytes also
 * -ENOMEM, -ENOSPC. */
PP_API int   pp_return_argument(pp_task *task, size_t offset, size_t size);

/* Return codes are int32_t; PP_ERAISED stands for 0, which would mean success. */
#define PP_ERAISED INT32_MIN

/*
 * Stores an error: code, a message for people (1023 bytes are kept) and, with pp_raise_data, detail bytes for programs.
 * Returns code, or PP_ERAISED when code is 0, so that "return pp_raise(...)" is never a success. Once raised, the
 * task ends as raised, with this code even if it then returns 0; the last call wins, and what pp_return stored is
 * dropped, so data must not stand in room of pp_return_alloc. format may be NULL: "". Where there is no room for message and
 * detail, the code alone remains.
 */
PP_API int   pp_raise(pp_task *task, int code, const char *format, ...) PP_FORMAT(3, 4);
PP_API int   pp_raisev(pp_task *task, int code, const char *format, va_list arguments) PP_FORMAT(3, 0);
PP_API int   pp_raise_data(pp_task *task, int code, const void *data, size_t size, const char *format, ...)
             PP_FORMAT(5, 6);

/* The i-th of the descriptors that the task was given, counted from 0; -EINVAL when there is none. They are the library's
 * to close; one that the task has closed itself, and maybe opened another file in its place, is left alone. */
PP_API int   pp_task_fd(const pp_task *task, unsigned i);

/* Whether this task was asked to end: its time is over, or a kill or a shutdown with PP_SHUTDOWN_KILL was asked for. It may
 * still end as it likes, within grace_ms. In the initializer and the finalizer false. For loops: costs no system call. */
PP_API bool  pp_task_cancelled(const pp_task *task);
/* Milliseconds until the time of this attempt is over, rounded down; 0: it is; PP_FOREVER: it has no bound, as in the
 * initializer, in the finalizer and with PP_INLINE. */
PP_API int64_t pp_task_remaining_ms(const pp_task *task);

/* Index of this worker, below max_workers (below what it was, when it was lowered meanwhile). -1: it has none, as a spare in
 * the initializer and in rounds, and one that has handed its index on in the finalizer; task is NULL. */
PP_API int   pp_task_worker(const pp_task *task);
PP_API unsigned pp_task_attempt(const pp_task *task);    /* 1 for the first */
PP_API const char *pp_task_name(const pp_task *task);    /* never NULL */

/* Says how far the task has come, for pp_future_progress; the units are the task's own. text may be NULL; 63 bytes are kept.
 * Costs some 30 ns, no system call. Of an item of a map nobody hears it; in the initializer and the finalizer it does
 * nothing. 0; -EINVAL (task is NULL). */
PP_API int   pp_task_progress(pp_task *task, uint64_t done, uint64_t total, const char *text);

/* A pointer private to this worker process: the initializer sets it, tasks and the finalizer read it. */
PP_API void  pp_task_set_worker_data(pp_task *task, void *data);
PP_API void *pp_task_worker_data(const pp_task *task);

#ifdef __cplusplus
}
#endif
#endif
