#!/bin/sh
# SPDX-License-Identifier: MIT
# What the shared library exports is what the map says, and that is what the header declares.
set -u
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

if [ ! -f "$TOP_BUILDDIR/.libs/libprocpool.so" ]; then
	echo "ok 1 - symbols: library and map # SKIP no shared library was built"
	echo "ok 2 - symbols: header and map # SKIP no shared library was built"
	echo "1..2"
	exit 0
fi
sed -n 's/^\t\(pp_[a-z_]*\);$/\1/p' "$TOP_SRCDIR/lib/procpool.map" | sort >"$tmp/map"
nm -D --defined-only "$TOP_BUILDDIR/.libs/libprocpool.so" | awk '$2 ~ /^[TDBRV]$/ { sub(/@.*/, "", $3); print $3 }' \
	| sort >"$tmp/library"
grep -o 'PP_API.*(' "$TOP_SRCDIR/include/procpool.h" | grep -o 'pp_[a-z_]*(' | tr -d '(' | sort -u >"$tmp/header"

if [ -s "$tmp/map" ] && diff "$tmp/map" "$tmp/library"; then echo "ok 1 - symbols: library and map"
else echo "not ok 1 - symbols: library and map"; fi
if [ -s "$tmp/header" ] && diff "$tmp/map" "$tmp/header"; then echo "ok 2 - symbols: header and map"
else echo "not ok 2 - symbols: header and map"; fi
echo "1..2"
