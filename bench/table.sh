#!/bin/sh
# SPDX-License-Identifier: MIT
# make bench-table: what the last run of make bench or bench-bars left in bench/out of the build folder, as Markdown:
# the machine, the bars, and the table. For bench/README.md.
set -eu
: "${BENCH_BUILDDIR:?is not set}"
LC_ALL=C
export LC_ALL
out=$BENCH_BUILDDIR/out

for file in machine bars table; do
	[ -s "$out/$file.tsv" ] || { echo "bench: $out/$file.tsv is not here: run make bench-bars first" >&2; exit 1; }
done

rows() { # file
	sed 's/|/\\|/g; s/	/ | /g; s/^/| /; s/$/ |/' "$1"
}

printf '| | |\n|---|---|\n'
rows "$out/machine.tsv"
printf '\n| bar | measured | goal | |\n|---|---|---|---|\n'
rows "$out/bars.tsv"
printf '\n| name | metric | median | unit | min | max |\n|---|---|--:|---|--:|--:|\n'
tail -n +2 "$out/table.tsv" >"$out/table.rows"
rows "$out/table.rows"
rm "$out/table.rows"
