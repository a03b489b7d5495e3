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

/* Last of all that a worker does to set itself up, because it bounds what can still be done. */
int  pp__surroundings_limit(struct pp__self *self, const pp_options *options);
/* With PP_PIN_EACH: to the CPU of its seat, which a spare gets late. What cannot be had is left as it is. */
void pp__surroundings_pin(const struct pp__self *self, const pp_options *options);

/*
 * The kernel's killer takes a worker before it takes the supervisor, and either before the application. Anybody may raise
 * his own score; where it fails, nothing is lost. The supervisor adds to what it has inherited, and notes what its workers
 * are to write; empty: they have enough. So a worker, which is born while somebody may wait for it, reads and prints nothing.
 */
#define PP__OOM_SUPERVISOR 200
#define PP__OOM_WORKER     800
struct pp__oom_score { char text[8]; uint32_t length; };    /* 0: none */
struct pp__oom_score pp__oom_raise(void);

/* 0 or negative errno, with what it was about in the worker's line. */
int  pp__surroundings_enter(struct pp__self *self, const pp_options *options, const struct pp__oom_score *score);

#endif
