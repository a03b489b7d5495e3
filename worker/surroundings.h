/* SPDX-License-Identifier: MIT */
/*
 * What a worker has around it, as the options of its executor say: priority, CPUs, environment, working directory, name,
 * and the limits that the kernel keeps. The options point into the memory of whoever called create; the supervisor is a
 * fork of that, and so is every worker, so nothing had to be copied for them.
 */
#ifndef PP_WORKER_SURROUNDINGS_H
#define PP_WORKER_SURROUNDINGS_H

#include "procpool.h"
#include "worker.h"

/* 0 or negative errno, with what it was about in the worker's line. */
int  pp__surroundings_enter(struct pp__self *self, const pp_options *options);
/* Last of all that a worker does to set itself up, because it bounds what can still be done. */
int  pp__surroundings_limit(struct pp__self *self, const pp_options *options);
/* With PP_PIN_EACH: to the CPU of its seat, which a spare gets late. What cannot be had is left as it is. */
void pp__surroundings_pin(const struct pp__self *self, const pp_options *options);

/*
 * The kernel's killer takes a worker before it takes the supervisor, and either before the application: adds to what was
 * inherited, and sees to it that it is that much at least. Anybody may raise his own; where it fails, nothing is lost.
 */
#define PP__OOM_SUPERVISOR 200
#define PP__OOM_WORKER     800
void pp__oom_raise(int by, int least);

#endif
