#!/bin/sh
# SPDX-License-Identifier: MIT
# make bench, make bench-bars, make bench-instructions: runs the measuring programs and prints the table, or the verdict on
# each bar. Table and plots are left in the build folder, as bench/out/table.tsv, bars.tsv and *.svg.
set -eu
: "${BENCH_BUILDDIR:?is not set}" "${BENCH_SRCDIR:?is not set}"
LC_ALL=C
export LC_ALL
out=$BENCH_BUILDDIR/out
programs=${BENCH_PROGRAMS:-"throughput scale roundtrip many crash start price footprint parent_death timeout payload"}
bars="T1 T2 T3 T4 T5 T6 T7 T8 L1 L2 L3 W1 C1 C2 C3 C4 S1 M1 M2 I1 R1 R2 P1 P2 P3"
# Calm, no program takes longer than a minute. On a machine that is busy, what a program has found by then still counts.
most=${BENCH_TIMEOUT:-150}

measure() { # what each program prints goes to out/PROGRAM.lines; a program that fails is told, and the others go on
	mkdir -p "$out"
	rm -f "$out"/*.lines
	for program in $programs; do
		echo "bench: $program" >&2
		status=0
		timeout "$most" "$BENCH_BUILDDIR/$program" >"$out/$program.lines" || status=$?
		case $status in
		0) ;;
		124) echo "bench: $program has not ended within $most s (BENCH_TIMEOUT)" >&2 ;;
		*) echo "bench: $program failed" >&2 ;;
		esac
	done
	{ printf 'name\tmetric\tvalue\tunit\tmin\tmax\n'; cat "$out"/*.lines | grep -v '^bar	'; } >"$out/table.tsv"
	cat "$out"/*.lines | grep '^bar	' | judge >"$out/bars.tsv" || true
}

# Parts of a bar become one line: id, measured, goal, ok or short.
judge() {
	awk -F '\t' -v OFS='\t' -v ids="$bars" '
		function add(text, more) { return text == "" ? more : text "; " more }
		{ id = $2; part = $4 == "-" ? $3 ": " $7 : $3 ": " $4 " " $7
		  measured[id] = add(measured[id], part)
		  goal = $4 == "-" ? "" : $5 " " $6 " " $7
		  if (goal != "" && index("; " goals[id] ";", "; " goal ";") == 0) goals[id] = add(goals[id], goal)
		  if ($8 != "ok") short[id] = 1 }
		END { n = split(ids, order, " ")
			for (i = 1; i <= n; i++) { id = order[i]
				if (id in measured) print id, measured[id], goals[id], id in short ? "short" : "ok"
				else print id, "not measured", "", "short" } }'
}

case $1 in
bench)
	measure
	cat "$out/table.tsv"
	sh "$BENCH_SRCDIR/plot.sh" "$out"
	;;
bench-bars)
	measure
	cat "$out/bars.tsv"
	! grep -q '	short$' "$out/bars.tsv"
	;;
bench-instructions)
	exec sh "$BENCH_SRCDIR/instructions.sh"
	;;
*)
	echo "run.sh: $1?" >&2
	exit 1
	;;
esac
