/* SPDX-License-Identifier: MIT */
/* What an executor's shared memory holds, for a test that hangs. White-box: reads words only, changes nothing. */
#ifndef TESTS_CRASH_DUMP_H
#define TESTS_CRASH_DUMP_H

#include <procpool.h>

/* To stderr: the control words, each worker's line and process state, each slot that is in use. */
void dump_executor(const pp_executor *executor);

#endif
