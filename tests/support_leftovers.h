/* SPDX-License-Identifier: MIT */
/* The checked fixture: notes what there is before a test, and asserts that it is the same after it. */
#ifndef TESTS_SUPPORT_LEFTOVERS_H
#define TESTS_SUPPORT_LEFTOVERS_H

#include <stdbool.h>

void leftovers_note(void);
void leftovers_check(void);

/* The same for an application in a process of its own, which asserts nothing: what this process has now, and whether it
 * has no more than that, after a second at the latest. Other processes are not looked for. */
struct census { int threads, fds, mappings, files; };
struct census leftovers_count(void);
bool leftovers_none(struct census before);

#endif
