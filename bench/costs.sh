#!/bin/sh
# SPDX-License-Identifier: MIT
# make bench-costs: what using the library costs apart from time per task: its size, what it takes to load it beside
# some others, and the cache lines that a task touches (bench/lines.sh). Lines as in the table; without min and max
# where a figure is counted and not measured.
set -eu
: "${BENCH_BUILDDIR:?is not set}" "${BENCH_SRCDIR:?is not set}"
LC_ALL=C
export LC_ALL
library=$BENCH_BUILDDIR/../.libs/libprocpool.so

line() { # metric, value, unit
	printf 'libprocpool.so\t%s\t%s\t%s\n' "$1" "$2" "$3"
}

printf 'name\tmetric\tvalue\tunit\tmin\tmax\n'
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
strip -o "$tmp/stripped" "$library"
line "file, stripped" "$(wc -c <"$tmp/stripped")" bytes
size -B "$library" >"$tmp/size"
read -r text data bss _ <<END
$(tail -n 1 "$tmp/size")
END
line "code and constants" "$text" bytes
line "data, of each process" "$data" bytes
line "data that begins as zeros, of each process" "$bss" bytes
readelf -rW "$library" >"$tmp/relocations"
line "relocations by address" "$(grep -c '_RELATIVE ' "$tmp/relocations" || true)" relocations
line "relocations by name" "$(grep ' R_' "$tmp/relocations" | grep -cv '_RELATIVE ' || true)" relocations
line "other libraries that it needs" "$(readelf -dW "$library" | grep -c NEEDED)" libraries
"$BENCH_BUILDDIR/load" "$library" libm.so.6 libuv.so.1 libglib-2.0.so.0 libtbb.so.12
echo
sh "$BENCH_SRCDIR/lines.sh"
