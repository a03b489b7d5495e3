/* SPDX-License-Identifier: MIT */
/*
 * What /proc and the kernel's clocks say about the processes of a pool: who they are, what memory is theirs alone,
 * what CPU time they have used. A line that cannot be read ends the program.
 */
#ifndef BENCH_PROC_H
#define BENCH_PROC_H

#include "bench.h"

#define PROC_MOST 128

/* The parent of a process; 0: there is no such process. */
pid_t   proc_parent(pid_t pid);
/* The processes of a pool, up to PROC_MOST: its supervisor first, then workers and spares. Returns how many. */
int     proc_of_pool(pp_executor *executor, pid_t *pids);
/* Bytes: what private mappings have of their own, and, when shared is not NULL, what is there of shared ones. */
int64_t proc_memory(pid_t pid, int64_t *shared);
/* What smaps_rollup calls private, in bytes. */
int64_t proc_private(pid_t pid);
int64_t proc_cpu_ns(pid_t pid);                  /* CPU time of all threads of the process */
/* Whether a process that is not a zombie maps the object of this inode. */
bool    proc_anyone_maps(uint64_t inode);
/* The inode of the largest shared mapping of this process, which is the pool's. */
uint64_t proc_largest_shared(void);

#endif
