/* SPDX-License-Identifier: MIT */
#ifndef TESTS_CRASH_HOSTILE_H
#define TESTS_CRASH_HOSTILE_H

#include <check.h>
#include <procpool.h>
#include <stdbool.h>
#include "../app.h"

bool hostile_is_full(void);
void hostile_echo(pp_executor *ex, const void *data, size_t size);       /* in an application: runs a task */
void hostile_add_more(TCase *tcase);             /* those of hostile_more.c */

/* hostile_report.c */
void hostile_begin(unsigned seed);
void hostile_tell(const char *what, int done, int all);  /* in the long form: how far it has come, at each thousandth */
/* Says what has failed, by which numbers, and what is left of it, and ends that. The long form goes on, and asserts on the
 * count in the end. */
void hostile_failed(const char *format, ...) __attribute__((format(printf, 1, 2)));
int  hostile_failures(void);                     /* of this test */
bool hostile_all_go(void);                       /* all processes of pools, within the guard */
void hostile_end_if_stuck(const struct app *app);        /* by force, when the guard is over */

#endif
