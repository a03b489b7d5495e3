#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The item "fuzz" of tests/crash/run.sh: short or full. Runs tests/crash/fuzz, which is built by clang with libFuzzer,
# ASan and UBSan, for FUZZ_SECONDS (14; an hour) by two jobs from the corpus on; meanwhile replays the corpus and adds up
# how many lines of the functions in fuzz-functions.txt it reaches: FUZZ_LINES (95) of a hundred must be. The last line
# is the summary. What was found is in tests/crash/records/fuzz of the build folder.
set -uo pipefail
src=${TOP_SRCDIR:-$PWD} build=${TOP_BUILDDIR:-$PWD}
program=$build/tests/crash/fuzz corpus=$src/tests/crash/corpus
functions=$src/tests/crash/fuzz-functions.txt
# A run that takes so long hangs; many of the full form may share the machine with others for a while.
case ${1:-short} in full) seconds=3600 hangs=60 ;; *) seconds=14 hangs=10 ;; esac
seconds=${FUZZ_SECONDS:-$seconds}
llvm() { "$("${FUZZ_CC:-clang}" -print-prog-name="llvm-$1")" "${@:2}"; }
kept=$build/tests/crash/records/fuzz
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT
mkdir -p "$kept" "$work/new1" "$work/new2"
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_leaks=1}

# Its profile is thrown away: what one machine finds in its time would be another figure each day.
fuzz() { # job
	LLVM_PROFILE_FILE=/dev/null "$program" -seed="$((${CRASH_SEED:-0} + $1))" -max_total_time="$seconds" \
		-timeout="$hangs" -entropic=0 -rss_limit_mb=0 -max_len=1024 -use_value_profile=$(($1 - 1)) -print_final_stats=1 \
		-artifact_prefix="$kept/" "$work/new$1" "$corpus" >"$work/job$1.log" 2>&1
}

# Prints how many lines there are and how many are reached, and each function that is not reached as a whole.
coverage() {
	local sources
	sources=$(awk '!/^#/ { print "'"$src"'/" $1 }' "$functions")
	LLVM_PROFILE_FILE=$work/replay.profraw "$program" -runs=0 -timeout=60 "$corpus" >"$work/replay.log" 2>&1 \
		|| { cat "$work/replay.log"; return 1; }
	llvm profdata merge -o "$work/replay.prof" "$work/replay.profraw" || return
	# shellcheck disable=SC2086
	llvm cov report "$program" -instr-profile="$work/replay.prof" -show-functions $sources >"$work/report" || return
	awk '
		FNR == NR { if (/^#/) next
			for (i = 2; $i != ":"; i++) wanted[$1, $i] = 1
			next }
		/^File / { file = $2; gsub(/[\047:]/, "", file)
			sub(/.*\/lib\//, "lib/", file); sub(/.*\/worker\//, "worker/", file) }
		NF == 10 && $5 ~ /^[0-9]+$/ { name = $1; sub(/.*:/, "", name)
			if (!((file, name) in wanted)) next
			# What stands in a header is there once for each file that has it: that which was used most counts.
			if (!((file, name) in missed) || $6 < missed[file, name]) missed[file, name] = $6
			lines[file, name] = $5 }
		END { for (key in wanted) {
				split(key, part, SUBSEP)
				if (!(key in lines)) { bad = 1; print "no such function: " part[1], part[2]; continue }
				all += lines[key]; reached += lines[key] - missed[key]
				if (missed[key] > 0) printf "# %s %s: %d of %d lines reached\n",
					part[1], part[2], lines[key] - missed[key], lines[key] }
			print reached + 0, all + 0; exit bad }' "$functions" "$work/report"
}

stat() { awk -v name="stat::$1:" '$1 == name { n += $2 } END { print n + 0 }' "$work"/job?.log; }

fuzz 1 & first=$!
fuzz 2 & second=$!
coverage >"$work/lines"
covered=$?
wait $first && wait $second
rc=$?
[ $rc = 0 ] || wait $second
[ $rc = 0 ] || grep -hE 'ERROR|runtime error|does not hold|^ *#[0-9]+ .*/(lib|worker|tests)/|Test unit' \
	"$work"/job?.log | head -n 40
cat "$work/lines"
[ $covered = 0 ] || exit 1
read -r reached all < <(tail -n 1 "$work/lines")
percent=$(awk -v r="$reached" -v a="$all" 'BEGIN { printf "%.1f", a ? int(r * 1000 / a) / 10 : 0 }')
[ $rc = 0 ] || { echo "an input that was found is in $kept; $percent % of the lines of validating functions"; exit 1; }
echo "$(stat number_of_executed_units) executions in $seconds s by 2 jobs from" \
	"$(find "$corpus" -type f | wc -l) inputs; $percent % of the lines of validating functions ($reached of $all);" \
	"0 lost, 0 duplicated, 0 hung, 0 wrong"
awk -v r="$reached" -v a="$all" -v least="${FUZZ_LINES:-95}" 'BEGIN { exit r * 100 < a * least }'
