#!/bin/sh
# SPDX-License-Identifier: MIT
# Cache lines that one empty task touches, by whom and where: bench/instructions runs some rounds while valgrind's
# lackey notes every access to memory, and the last round is counted, in which slots have been used before. Of areas in which each task has a place of its
# own it prints how many lines there are per task; of the others, how many different ones all tasks of the round touch.
set -eu
: "${BENCH_BUILDDIR:?is not set}" "${LIBTOOL:?is not set}"
LC_ALL=C
export LC_ALL
rounds=8

if ! command -v valgrind >/dev/null 2>&1; then
	echo "valgrind is needed (Debian: valgrind)" >&2
	exit 1
fi
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
$LIBTOOL --mode=execute valgrind --tool=lackey --trace-mem=yes --log-file="$tmp/%p" \
	"$BENCH_BUILDDIR/instructions" $rounds lines >"$tmp/out" || { cat "$tmp"/[0-9]* >&2; exit 1; }
read -r parent worker tasks <"$tmp/out"
tail -n +2 "$tmp/out" >"$tmp/areas"

awk -F '\t' -v tasks=$((tasks / rounds)) -v rounds=$rounds -v OFS='\t' '
	BEGIN {
		split("submit;result and free;worker;together", doing, ";")
		for (i = 0; i < 16; i++) digit[substr("0123456789abcdef", i + 1, 1)] = i }
	function number(hex,   i, n) { for (i = 1; i <= length(hex); i++) n = 16 * n + digit[substr(hex, i, 1)]; return n + 0 }
	function touch(a, line, how) { seen[what, a, line] = seen[what, a, line] how }
	function note(address, size, how,   a, line) {
		for (a = 1; a <= areas && !(address >= start[a] && address < end[a]); a++) ;
		if (a > areas) { touch(a, sprintf("%.0f", int(address / 64)), how); return }
		for (line = int((address - start[a]) / 64); line <= int((address + size - 1 - start[a]) / 64); line++)
			touch(a, line, how) }
	function per(a, count) { return each[a] ? sprintf("%.3g", count / tasks) : count + 0 }
	FILENAME ~ /areas$/ { areas++; name[areas] = $1; each[areas] = $2 == "each"; start[areas] = $3; end[areas] = $4; next }
	!/^ [LSM] / { next }
	{ how = substr($0, 2, 1); split(substr($0, 4), part, ","); address = part[1]; sub(/^ */, "", address)
	  high = substr(address, 1, length(address) - 3)
	  if (!(high in numbers)) numbers[high] = number(high) * 4096
	  at = numbers[high] + number(substr(address, length(address) - 2)) }
	at >= start[1] && at < end[1] {  # a mark. Of an earlier round nothing is kept; behind the last gate is the end
		what = at - start[1]
		if (what == 3 && ++gates > rounds) what = 0
		for (key in seen) if (index(key, what SUBSEP) == 1) delete seen[key]
		next }
	what { note(at, part[2], how) }
	END {
		name[areas + 1] = "stack, constants, libc"
		for (key in seen) {
			split(key, k, SUBSEP)
			n[k[1], k[2]]++
			written[k[1], k[2]] += seen[key] ~ /[SM]/
			if (k[2] <= areas) all[k[2], k[3]] = all[k[2], k[3]] seen[key] }
		for (key in all) { split(key, k, SUBSEP); n[4, k[1]]++; written[4, k[1]] += all[key] ~ /[SM]/ }
		print "by", "where", "lines touched", "of them written", "per"
		for (w = 1; w <= 4; w++) for (a = 2; a <= areas + 1; a++) if ((w, a) in n)
			print doing[w], name[a], per(a, n[w, a]), per(a, written[w, a]),
			      each[a] ? "task" : "all tasks" }' "$tmp/areas" "$tmp/$parent" "$tmp/$worker"
