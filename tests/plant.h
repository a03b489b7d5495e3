/* SPDX-License-Identifier: MIT */
/*
 * Functions that end their process in a known line of plant.c, each with that line. They are built without sanitizers,
 * with whatever CFLAGS the library is built with.
 */
#ifndef TESTS_PLANT_H
#define TESTS_PLANT_H

#include "support.h"

enum plant { PLANT_SEGV, PLANT_ABRT, PLANT_FPE, PLANT_BUS, PLANT_ILL, PLANT_STACK, PLANT_NULL_CALL, PLANTS };
struct plant_facts { const char *function; int line; };
extern const struct plant_facts plant_facts[PLANTS];

/* data is an int, enum plant. */
int task_plant(pp_task *task, const void *data, size_t size);
/* The same in a thread that the task starts and waits for. */
int task_plant_in_thread(pp_task *task, const void *data, size_t size);
/* Kills itself by the signal that data, an int, says: by kill(2). */
int task_kill_itself(pp_task *task, const void *data, size_t size);

#endif
