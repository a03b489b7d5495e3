/* SPDX-License-Identifier: MIT */
/* Frames at which every unwinder stops: this file alone is built without unwind tables. */
#include "door.h"
#include <unistd.h>
#include "supervisor.h"
#include "worker.h"

/* A frame of its own: a call in last place would be a jump. */
#define STAY __asm__ volatile("" ::: "memory")

void pp__enter_supervisor(const struct pp__boot *boot)
{
	_exit(pp__supervisor_main(boot));
}

void pp__enter_worker(struct pp__supervisor *supervisor, uint32_t entry)
{
	_exit(pp__worker_main(supervisor, entry));
}

int pp__enter_inline_hook(struct pp__self *self, pp_fn *fn, const void *data, size_t size)
{
	int rc = pp__inline_hook(self, fn, data, size);

	STAY;
	return rc;
}

void pp__enter_inline_task(struct pp__self *self, uint32_t slot, const struct pp__pass_end *fds, int fd_count)
{
	pp__inline_run(self, slot, fds, fd_count);
	STAY;
}
