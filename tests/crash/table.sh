#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The table of figures in doc/crash-safety.md, in Markdown, from records of tests/crash/run.sh:
#
#   tests/crash/table.sh tests/crash/record-full.txt
#
# Each line of a record stands alone, so those of items that were run in several places are joined by
# "cat .../tests/crash/records/full.txt | sort". Fails if an item did not pass.
set -euo pipefail

cat -- "$@" | awk '
	# What stands behind a word in brackets or parentheses, up to the next semicolon or its end.
	function part(n) { return parts[n] }
	function duration(s) { return s < 100 ? s " s" : s < 6000 ? int(s / 60 + 0.5) " min" : sprintf("%.1f h", s / 3600) }
	/^(ok|FAILED|skipped) / {
		verdict = $1; item = $2; text = $0
		if (!match(text, / \[[^]]*\]$/)) { print "no date: " text > "/dev/stderr"; bad = 1; next }
		split(substr(text, RSTART + 2, RLENGTH - 3), parts, "; ")
		text = substr(text, 1, RSTART - 1)
		match(text, / \([0-9]+ s[^)]*\)$/)
		seconds = substr(text, RSTART + 2) + 0
		text = substr(text, 1, RSTART - 1)
		sub(/^[^ ]+ +[^ ]+ +/, "", text)
		while (match(text, /[0-9]+ (lost|duplicated|hung|wrong)/)) {
			split(substr(text, RSTART, RLENGTH), fault, " ")
			faults[fault[2]] += fault[1]
			text = substr(text, 1, RSTART - 1) substr(text, RSTART + RLENGTH) }
		gsub(/,? *((last )|(from ))?seed [0-9]+/, "", text); gsub(/[;, ]+$/, "", text); gsub(/\|/, "/", text)
		if (verdict != "ok") { text = verdict ": " text; bad = 1 }
		rows[++n] = "| " item " | " text " | " duration(seconds) " | " part(1) ", " part(4) " |"
		if (!(part(2) in machines)) { machines[part(2)]; machine = machine (machine ? "; " : "") part(2) }
		if (!(part(3) in compilers)) { compilers[part(3)]; compiler = compiler (compiler ? "; " : "") part(3) } }
	END {
		if (!n) { print "no records" > "/dev/stderr"; exit 1 }
		print "| item | tried | took | when, and of which commit |"
		print "|---|---|---|---|"
		for (i = 1; i <= n; i++) print rows[i]
		printf "\nAll in all: %d lost, %d duplicated, %d hung, %d wrong. Machine: %s; %s.\n", faults["lost"],
			faults["duplicated"], faults["hung"], faults["wrong"], machine, compiler
		exit bad }'
