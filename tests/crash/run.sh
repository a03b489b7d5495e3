#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# The proof of crash safety: one item after the other, one line for each. `make check-crash` runs the short form, whose
# budgets (seconds on two cores, builds included) stand in the table below and are printed beside what was taken;
# `make check-crash-full` runs the long form, which has none. ITEMS="kills fuzz" runs only these.
#
# An item is a line of the table and a function item_NAME, which is called with short or full. Its last line of output is
# its summary: what was tried, the outcomes, "0 lost, 0 duplicated, 0 hung, 0 wrong". It returns 0; 77 with the reason as
# its last line when this machine cannot run it (a failure where CRASH_NO_SKIP is set); anything else is a failure. All
# that it prints is kept in tests/crash/records/FORM/NAME.log of the build folder, and its line in records/FORM.txt in
# place of an earlier one, with when it began, the machine, the compilers and the commit: each line stands alone, so
# items may be run at several times and places. tests/crash/record-full.txt is such a record of the full form, and
# table.sh makes of it the figures in the documents.
set -uo pipefail

# name          budget of the short form
table="
kills           80
mutants         80
schedules       15
model           25
wild            25
fuzz            20
calls           15
storm           10
lockout          5
hostile         25
"

form=${1:-short}
src=${TOP_SRCDIR:-$PWD}
build=${TOP_BUILDDIR:-$PWD}
records=$build/tests/crash/records
make=${MAKE:-make}

# Builds what an item needs; quiet unless it fails.
need() { # targets...
	local log
	log=$(cd "$build" && "$make" -j2 --no-print-directory "$@" 2>&1) || { printf '%s\n' "$log"; return 1; }
}

# In the full form as the compilers of builds.sh make it, in the short one as this build does.
item_steps() { # program, form
	[ "$2" != full ] || { TOP_BUILDDIR=$build MAKE=$make bash "$src/tests/crash/builds.sh" "$1"; return; }
	need "tests/crash/$1" && "$build/tests/crash/$1" "$2"
}

# Make does not see that the flags have changed since another form.
anew() { # program
	find "$build/lib" "$build/worker" "$build/tests/crash" -name "*$1-*.o" -delete
	rm -f "$build/tests/crash/$1"
}

item_kills() { item_steps kills "$1"; }

# Only what a mutant's test needs is built: the script takes it from there.
item_mutants() {
	# shellcheck disable=SC2046
	need libprocpool-internal.la tests/libsupport.la $(sed -n 's/^Caught-by: \(tests[^ ]*\).*/\1/p' \
		"$src"/tests/crash/mutants/*.patch | sort -u) || return
	TOP_SRCDIR=$src TOP_BUILDDIR=$build bash "$src/tests/crash/mutants.sh" ${MUTANTS:-}
}

item_schedules() { item_steps schedules "$1"; }

# With the sanitizers where the compiler has them. They make compiling slow, so the short form does not optimize.
item_wild() {
	local flags=()
	echo 'int main(void) { return 0; }' | ${CC:-cc} -fsanitize=address,undefined -x c -o /dev/null - 2>&1 \
		|| flags=(WILD_SANITIZE=)
	need libprocpool-door.la || return
	if [ "$1" = full ]; then anew wild; else flags+=("CFLAGS=${MUTANT_CFLAGS:-} -O0"); fi
	need tests/crash/wild "${flags[@]}" && "$build/tests/crash/wild" "$1"
}

# By clang, whatever the compiler of the rest is: libFuzzer is its own. Optimizing takes four times as long as it saves in
# the short form.
item_fuzz() {
	local cc=${FUZZ_CC:-clang} tool flags='-gline-tables-only -O0'
	if ! echo 'int LLVMFuzzerTestOneInput(const char *d, long n) { return d && n < 0; }' \
		| $cc -fsanitize=fuzzer,address,undefined -fprofile-instr-generate -x c -o /dev/null - >/dev/null 2>&1; then
		echo "needs clang with libFuzzer (Debian: clang)"
		return 77
	fi
	for tool in llvm-profdata llvm-cov; do
		command -v "$("$cc" -print-prog-name=$tool)" >/dev/null && continue
		echo "needs $tool of the same version as $cc (Debian: llvm)"
		return 77
	done
	[ "$1" = short ] || { anew fuzz; flags='-g -O1'; }
	need CC="$cc" CFLAGS="$flags" tests/crash/fuzz &&
		FUZZ_CC=$cc TOP_SRCDIR=$src TOP_BUILDDIR=$build bash "$src/tests/crash/fuzz.sh" "$1"
}

item_model() { bash "$src/model/check.sh" "$1"; }

# Sums up the lines of its configurations.
item_calls() {
	local out rc form=()
	[ "$1" = short ] || form=(CRASH_FULL=1)
	need tests/crash/calls || return
	out=$(env "${form[@]}" "$build/tests/crash/calls")
	rc=$?
	printf '%s\n' "$out"
	awk -v rc=$rc '/^# failing calls/ { runs++; match($0, /: [0-9]+ of [0-9]+/); split(substr($0, RSTART + 2, RLENGTH), n, " of ")
			tried += n[1]; all += n[2]; match($0, /[0-9]+ wrong/); wrong += substr($0, RSTART) + 0
			seed = $0; sub(/.*CRASH_SEED=/, "", seed) }
		/# SKIP/ { skip = 1 }
		END { if (skip && !runs) { print "needs the fork mode of Check"; exit 77 }
			for (hung = 0; rc && !wrong; wrong++) ;
			printf "%d of %d failures of calls in %d configurations, last seed %s; 0 lost, 0 duplicated, 0 hung, %d wrong\n",
				tried, all, runs, seed, wrong; exit rc }' <<<"$out"
}

# Its seconds are of the storm alone; STORM_SECONDS overrides them.
item_storm() {
	local out rc seconds=6
	[ "$1" = short ] || seconds=3600
	need tests/crash/soak || return
	out=$(SOAK_SECONDS=${STORM_SECONDS:-$seconds} "$build/tests/crash/soak" 2>&1)
	rc=$?
	printf '%s\n' "$out"
	[ $rc = 0 ] || { printf '%s\n' "$out" | grep -E '^not ok|^# storm|stuck' | tail -n 1; return 1; }
	awk '/^# storm of/ { storms++; seconds += $4; sub(/^[^:]*: /, ""); n = split($0, parts, ", ")
			for (i = 1; i <= n; i++) {
				match(parts[i], / [0-9]+$/); name = substr(parts[i], 1, RSTART - 1)
				if (!(name in sums)) order[++kinds] = name
				sums[name] += substr(parts[i], RSTART + 1) } }
		END { if (!storms) exit 1
			printf "storm of %.1f s:", seconds
			for (i = 1; i <= kinds; i++) printf " %s %.0f%s", order[i], sums[order[i]], i < kinds ? "," : ";"
			print " 0 lost, 0 duplicated, 0 hung, 0 wrong" }' <<<"$out"
}

# Also a program of make check: everything is tried in both forms.
item_lockout() {
	local log rc
	need tests/test_lockout || return
	log=$("$build/tests/test_lockout")
	rc=$?
	printf '%s\n' "$log"
	[ "$rc" = 0 ] || return "$rc"
	! grep '# SKIP' <<<"$log" || return 77
	echo "$(grep -c '^ok' <<<"$log") looks at names, descriptors and mappings over fork, exec and a second pool:" \
		"nothing inherited; 0 wrong"
}

item_hostile() {
	local log rc
	need tests/crash/hostile || return
	log=$([ "$1" = short ] || export CRASH_FULL=1; "$build/tests/crash/hostile")
	rc=$?
	printf '%s\n' "$log"
	[ "$rc" = 0 ] || return "$rc"
	! grep '# SKIP' <<<"$log" || return 77
	sed -n '/SEED/d; s/^# \(.*\)/\1;/p' <<<"$log" | tr '\n' ' '
	echo "0 lost, 0 duplicated, 0 hung, 0 wrong"
}

# What a record says beside the figures.
stamp() { # date
	local cc versions=
	for cc in "${CC:-cc}" clang; do
		cc=$($cc --version 2>/dev/null | head -n 1)
		[[ -z "$cc" || "$versions" == *"$cc"* ]] || versions+="${versions:+, }$cc"
	done
	printf '[%s; %s, %s CPUs; %s; %s]' "$1" "$(uname -srm)" "$(nproc)" "$(tr -d '[];' <<<"$versions")" \
		"$(git -C "$src" describe --always --dirty 2>/dev/null || echo 'no commit')"
}

keep() { # name, line
	local kept=$records/$form.txt
	{ grep -sv "^[A-Za-z]* *$1 " "$kept"; printf '%s\n' "$2"; } | sort -k 2,2 >"$kept.new" && mv "$kept.new" "$kept"
}

run_item() { # name, budget
	local log=$records/$form/$1.log start=$SECONDS began rc took word line
	began=$(date -u '+%Y-%m-%d %H:%M UTC')
	(exec </dev/null; "item_$1" "$form") >"$log" 2>&1
	rc=$?
	took=$((SECONDS - start))
	case $rc in
	0) word=ok ;;
	77) word=skipped; [ -z "${CRASH_NO_SKIP:-}" ] || failed=1 ;;
	*) word=FAILED; failed=1 ;;
	esac
	[ "$word" != FAILED ] || tail -n 40 "$log"
	line=$(printf '%-8s %-10s %s (%d s%s)' "$word" "$1" "$(tail -n 1 "$log")" "$took" \
		"$([ "$form" = full ] || echo ", budget $2 s")")
	echo "$line"
	keep "$1" "$line $(stamp "$began")"
}

failed=0
mkdir -p "$records/$form"
while read -r name budget; do
	[ -n "$name" ] || continue
	[ -z "${ITEMS:-}" ] || [[ " $ITEMS " == *" $name "* ]] || continue
	run_item "$name" "$budget"
done <<<"$table"
echo "all: $SECONDS s$([ "$form" = full ] || echo ' (budget 300 s)')"
exit $failed
