/* SPDX-License-Identifier: MIT */
/*
 * An application in a process of its own, for tests in which the application ends, is killed, or has limits that a test
 * program could not work with. It is a fork of the test, which must not have called the library before: it then is a
 * program's own process to the library, not a child that inherited an executor. The library's rule for that is what
 * makes these tests need Check's fork mode: under CK_FORK=no they are skipped (app_tests_can_run).
 *
 * The application asserts nothing. APP_CHECK tells the test what did not hold, and ends the application with status 1.
 */
#ifndef TESTS_APP_H
#define TESTS_APP_H

#include <procpool.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/types.h>

struct app { pid_t pid; int reports; };

/* Its return value is the exit status, given to _exit. */
typedef int app_fn(void *context);

/* It has what the test has, but for the handlers that Check installed. */
void app_start(struct app *app, app_fn *fn, void *context);
/* In the application: what the test waits for in app_await_ready. */
void app_ready(void);
int  app_stay(void);                             /* is ready, and never returns */
#define APP_CHECK(expr) ((expr) ? (void)0 : app_failed(__FILE__, __LINE__, #expr))
_Noreturn void app_failed(const char *file, int line, const char *what);
/* Runs a task to its end, which must be of this kind, and where it returns it must return its argument. */
void app_check_task(pp_executor *ex, pp_fn *fn, const void *data, size_t size, int kind);

/* Takes the identity of a user who has no process, so that the limit counts those of this application alone. Needs root. */
void app_limit_processes(rlim_t most);

/* In the test. Each asserts, with the application's report, when it does not come to that within the guard. */
void app_await_ready(struct app *app);
void app_finish(struct app *app);                /* it ended by itself, with status 0 */
int  app_wait(struct app *app);                  /* it ended, with this wait status */
int  app_wait_report(struct app *app, char *report, size_t size);        /* the same, with what it told of its failure */
void app_kill(struct app *app);                  /* SIGKILL, and reaps it */

/* Starts and finishes it. */
void app_run(app_fn *fn, void *context);

/* Asserts that no process that carries the test's mark is left but n. */
void app_until_processes(size_t n);

bool app_tests_can_run(void);                    /* false under CK_FORK=no */

#endif
