#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# A program of the crash proof in its full form, by each compiler at each level: builds.sh kills, or builds.sh schedules.
# Which instructions there are to be killed at is the compiler's choice, so what holds for one build says little of
# another. CRASH_BUILDS="gcc-O0 clang-O2" tries only these. A compiler that is not there is left out, with a line.
#
# Each build has a folder in tests/crash/builds of the build folder, and the sources a copy beside them: configure refuses
# to work from sources that are configured themselves. Run by tests/crash/run.sh. The last line is the summary: sums over
# the builds, which it names. 77: nothing could run here.
set -uo pipefail
program=${1:?}
build=${TOP_BUILDDIR:-$PWD}
make=${MAKE:-make}
top=$build/tests/crash/builds
source=$top/source

quiet() { # command...: silent unless it fails
	local log
	log=$("$@" 2>&1) || { printf '%s\n' "$log" | tail -n 40; return 1; }
}

# The times of files stay as they are, so that what is built already is not built again.
copy_sources() {
	mkdir -p "$top" || return
	quiet "$make" -C "$build" --no-print-directory distdir distdir="$source"
}

make_program() { # COMPILER-LEVEL
	mkdir -p "$top/$1" || return
	[ -f "$top/$1/Makefile" ] || (cd "$top/$1" && quiet "$source/configure" -q --disable-shared CC="${1%-*}" \
		CFLAGS="-g -${1##*-}") || return
	quiet "$make" -C "$top/$1" -j2 --no-print-directory "tests/crash/$program"
}

# The numbers of all summaries, each with the words behind it. A seed has none, and how many preemptions is no count.
add_up() {
	awk -v builds="$1" '
		{ sub(/ *\(at most[^)]*\)/, ""); sub(/seed [0-9]+;?/, ""); gsub(/[0-9]+/, "\n&"); n = split($0, parts, "\n")
			for (i = 2; i <= n; i++) {
				number = words = parts[i]; sub(/[^0-9].*/, "", number)
				sub(/^[0-9]+ */, "", words); sub(/ *[,;:()].*/, "", words); sub(/ +$/, "", words)
				if (!(words in sums)) order[++kinds] = words
				sums[words] += number } }
		END { for (i = 1; i <= kinds; i++) {
				words = order[i]
				if (words ~ /^(lost|duplicated|hung|wrong)$/) continue
				printf "%d %s%s", sums[words], words, words ~ / (in|of)$/ ? " " : ", " }
			printf "built as %s; %d lost, %d duplicated, %d hung, %d wrong\n", builds, sums["lost"], sums["duplicated"],
				sums["hung"], sums["wrong"] }'
}

tried= summaries= failed=0
copy_sources || { echo "the sources cannot be copied"; exit 1; }
for name in ${CRASH_BUILDS:-gcc-O0 gcc-O2 clang-O0 clang-O2}; do
	command -v "${name%-*}" >/dev/null || { echo "# $name: left out, there is no ${name%-*} here"; continue; }
	echo "# $name"
	make_program "$name" || { failed=1; echo "# $name: it cannot be built"; continue; }
	out=$("$top/$name/tests/crash/$program" full)
	rc=$?
	printf '%s\n' "$out"
	[ $rc != 77 ] || exit 77
	[ $rc = 0 ] || failed=1
	tried+=" $name" summaries+=$(tail -n 1 <<<"$out")$'\n'
done
[ -n "$tried" ] || { echo "no build could be tried"; exit $((failed ? 1 : 77)); }
printf '%s' "$summaries" | add_up "${tried# }"
exit $failed
