#!/bin/sh
# SPDX-License-Identifier: MIT
# make bench, bench-bars: runs the measuring programs and prints the table, or the verdict on each bar. Table and plots
# are left in the build folder, as bench/out/table.tsv, bars.tsv, machine.tsv and *.svg. The other targets have their
# own script.
set -eu
: "${BENCH_BUILDDIR:?is not set}" "${BENCH_SRCDIR:?is not set}"
LC_ALL=C
export LC_ALL
out=$BENCH_BUILDDIR/out
programs=${BENCH_PROGRAMS:-"throughput scale roundtrip many crash start price footprint parent_death timeout payload"}
# Calm, no program takes longer than a minute. On a machine that is busy, what a program has found by then still counts.
most=${BENCH_TIMEOUT:-150}

bars_of() { # program
	case $1 in
	throughput) echo T1 T2 T3 T4 ;;
	scale) echo T5 T6 T7 T8 ;;
	roundtrip) echo L1 L2 L3 ;;
	many) echo W1 ;;
	crash) echo C1 C2 C3 C4 ;;
	start) echo S1 ;;
	footprint) echo M1 M2 I1 ;;
	parent_death) echo R1 ;;
	timeout) echo R2 ;;
	payload) echo P1 P2 P3 ;;
	esac
}

# Parts that it has not come to may be missing, so each of its bars gets one that is short.
fail() { # program, what it did
	echo "bench: $1 $2" >&2
	for bar in $(bars_of "$1"); do
		printf 'bar\t%s\tthe program\t-\t-\t-\t%s\tshort\n' "$bar" "$2" >>"$out/$1.lines"
	done
}

check_programs() {
	for program in $programs; do
		[ -x "$BENCH_BUILDDIR/$program" ] || { echo "bench: there is no $program (BENCH_PROGRAMS)" >&2; exit 1; }
	done
}

measure() { # what each program prints goes to out/PROGRAM.lines; a program that fails is told, and the others go on
	check_programs
	mkdir -p "$out"
	rm -f "$out"/*.lines
	sh "$BENCH_SRCDIR/machine.sh" >"$out/machine.tsv"
	for program in $programs; do
		echo "bench: $program" >&2
		status=0
		timeout "$most" "$BENCH_BUILDDIR/$program" >"$out/$program.lines" || status=$?
		case $status in
		0) ;;
		124) fail "$program" "has not ended within $most s (BENCH_TIMEOUT)" ;;
		*) fail "$program" "failed" ;;
		esac
	done
	for program in $programs; do cat "$out/$program.lines"; done >"$out/all.lines"
	{ printf 'name\tmetric\tvalue\tunit\tmin\tmax\n'; grep -v '^bar	' "$out/all.lines" || true; } >"$out/table.tsv"
	grep '^bar	' "$out/all.lines" | judge >"$out/bars.tsv" || true
}

# Parts of a bar become one line: id, measured, goal, ok or short. Where the goals of parts differ, each stands behind its
# part; and so does, when the bar is short, which of them are.
judge() {
	ids=
	for program in $programs; do ids="$ids $(bars_of "$program")"; done
	awk -F '\t' -v OFS='\t' -v ids="$ids" '
		function add(text, more) { return text == "" ? more : text "; " more }
		{ id = $2; n = ++parts[id]
		  part[id, n] = $3 ": " ($4 == "-" ? $7 : $4 " " $7)
		  goal[id, n] = $4 == "-" ? "" : $5 " " $6 " " $7
		  if (goal[id, n] != "" && index("; " goals[id] ";", "; " goal[id, n] ";") == 0) {
			goals[id] = add(goals[id], goal[id, n]); different[id]++ }
		  verdict[id, n] = $8
		  if ($8 != "ok") short[id] = 1 }
		function told(id,   i, more, text) {
			for (i = 1; i <= parts[id]; i++) {
				more = different[id] > 1 ? goal[id, i] : ""
				if (parts[id] > 1 && verdict[id, i] != "ok") more = more (more == "" ? "" : ", ") "short"
				text = add(text, part[id, i] (more == "" ? "" : " (" more ")")) }
			return text }
		END { n = split(ids, order, " ")
			for (i = 1; i <= n; i++) { id = order[i]
				if (id in parts) print id, told(id), goals[id], id in short ? "short" : "ok"
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
bench-instructions | bench-costs | bench-table)
	exec sh "$BENCH_SRCDIR/${1#bench-}.sh"
	;;
*)
	echo "run.sh: $1?" >&2
	exit 1
	;;
esac
