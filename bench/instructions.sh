#!/bin/sh
# SPDX-License-Identifier: MIT
# Instructions per task: of the parent's pp_submit, pp_future_result and pp_future_free, and of the worker's cycle. Counted
# by callgrind in two runs of bench/instructions, of which the longer has more rounds: their difference has neither start
# nor end in it, nor slots that are used for the first time. Compared with what bench/instructions.txt says; more than 10 % above it is a failure. That file changes
# only in a commit of its own, which says why.
set -eu
: "${BENCH_BUILDDIR:?is not set}" "${BENCH_SRCDIR:?is not set}" "${LIBTOOL:?is not set}"
LC_ALL=C
export LC_ALL
few=6
many=12

if ! command -v valgrind >/dev/null 2>&1; then
	echo "valgrind is needed (Debian: valgrind)" >&2
	exit 1
fi
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

total() { # file written by callgrind
	sed -n 's/^\(summary\|totals\): *\([0-9]*\).*/\2/p' "$1" | sort -n | tail -n 1
}

# Prints tasks, instructions of the parent, instructions of the worker.
count() { # rounds
	mkdir "$tmp/$1"
	$LIBTOOL --mode=execute valgrind --tool=callgrind --callgrind-out-file="$tmp/$1/%p" --collect-atstart=no \
		--toggle-collect=pp_submit --toggle-collect=pp_future_result --toggle-collect=pp_future_free \
		--toggle-collect=pp__worker_main \
		"$BENCH_BUILDDIR/instructions" "$1" >"$tmp/$1.out" 2>"$tmp/$1.err" || { cat "$tmp/$1.err" >&2; return 1; }
	read -r parent worker tasks <"$tmp/$1.out"
	echo "$tasks $(total "$tmp/$1/$parent") $(total "$tmp/$1/$worker")"
}

few_counts=$(count $few)
many_counts=$(count $many)
echo "$few_counts $many_counts" | awk '{ printf "parent\t%.0f\nworker\t%.0f\n", ($5 - $2) / ($4 - $1), ($6 - $3) / ($4 - $1) }' \
	>"$tmp/counts"
awk -F '\t' '
	NR == FNR { if ($0 !~ /^#/ && NF == 2) kept[$1] = $2; next }
	{ verdict = "ok"
	  if (!($1 in kept) || $2 + 0 <= 0) verdict = "nothing to compare"
	  else if ($2 > 1.1 * kept[$1]) verdict = "grown by more than 10 %"
	  if (verdict != "ok") failed = 1
	  printf "instructions per task\t%s\t%d\tkept: %d\t%s\n", $1, $2, kept[$1], verdict; n++ }
	END { exit failed || n != 2 }' "$BENCH_SRCDIR/instructions.txt" "$tmp/counts"
