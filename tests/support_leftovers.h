/* SPDX-License-Identifier: MIT */
/* The checked fixture: notes what there is before a test, and asserts that it is the same after it. */
#ifndef TESTS_SUPPORT_LEFTOVERS_H
#define TESTS_SUPPORT_LEFTOVERS_H

void leftovers_note(void);
void leftovers_check(void);

#endif
