/* SPDX-License-Identifier: MIT */
/* What the shared memory and the private books of a yard say: whether it is calm, whether they balance, all of it. */
#ifndef TESTS_CRASH_BOOKS_H
#define TESTS_CRASH_BOOKS_H

#include "yard.h"

/* Every process sleeps, every death is buried, every seat is taken, and so is the spare's place where there must be one. */
bool books_are_calm(struct yard *yard);
/* Called when it is calm and all futures are freed: every slot, unit and entry is accounted for. */
void books_check(struct yard *yard);
/* After shutdown: no process is left. */
void books_check_gone(struct yard *yard);
void books_dump(const struct yard *yard);

#endif
