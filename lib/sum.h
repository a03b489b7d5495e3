/* SPDX-License-Identifier: MIT */
/*
 * The checksum of a result's bytes, of executors with PP_CHECKSUM. Its worker takes it, and it goes into the check of
 * the result's descriptor; the parent takes it again when it first looks at the result. It is there to find bytes that
 * were changed by accident, and fast: XXH3, more than 10 GB/s where zlib's crc32 does 3 to 6.
 */
#ifndef PP_LIB_SUM_H
#define PP_LIB_SUM_H

#include <stdbool.h>
#include <stdint.h>

bool     pp__sum_is_known(void);         /* false: this library was built without it */
uint32_t pp__sum(const void *bytes, uint64_t size);      /* 0 of no bytes */

#endif
