/* SPDX-License-Identifier: MIT */
#ifndef TESTS_CRASH_HOSTILE_H
#define TESTS_CRASH_HOSTILE_H

#include <check.h>
#include <procpool.h>
#include <stdbool.h>

bool hostile_is_full(void);
void hostile_echo(pp_executor *ex, const void *data, size_t size);       /* in an application: runs a task */
void hostile_add_more(TCase *tcase);             /* those of hostile_more.c */

#endif
