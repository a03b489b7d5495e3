/* SPDX-License-Identifier: MIT */
/* Hostile hosts: shared memory that is full, small or missing, and limits on files, descriptors and processes. */
