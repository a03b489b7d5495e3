/* SPDX-License-Identifier: MIT */
/*
 * The peers that are libraries, each in a file of its own that is built when configure has found it. Each does for a task
 * what ours does: takes a number, gives back that number plus one, and the caller checks it.
 */
#ifndef BENCH_PEERS_H
#define BENCH_PEERS_H

#include "bench.h"

#ifdef __cplusplus
extern "C" {
#endif

extern const struct bench_side bench_uv, bench_glib, bench_tbb, bench_asio;

#ifdef __cplusplus
}
#endif
#endif
