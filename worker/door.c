/* SPDX-License-Identifier: MIT */
/* Frames at which every unwinder stops: this file alone is built without unwind tables. */
#include "door.h"
#include <unistd.h>
#include "supervisor.h"
#include "worker.h"

void pp__enter_supervisor(const struct pp__boot *boot)
{
	_exit(pp__supervisor_main(boot));
}

void pp__enter_worker(struct pp__supervisor *supervisor, uint32_t entry)
{
	_exit(pp__worker_main(supervisor, entry));
}
