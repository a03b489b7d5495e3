#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Runs the models, two at a time: `make check-model`; with the argument full also those that take minutes. Lines of the
# table: the form, what is expected, the model, its options. "good" must be without an error; a mutant, which is a mistake
# in the protocol, must have one. BITSTATE: the states do not fit into memory, a hash of two bits each does; then what
# was looked at is a sample, though nearly all. Prints a line for each, then a summary; 77 where SPIN is not installed.
set -uo pipefail

wake="wake -DS=1 -DN=2 -DSPIN=0"
slot="slot -DSLOTS=1"
sleeper="announce -DTASKS=1 -DSLEEPER=1"
table="
short good   $wake
short good   wake -DS=1 -DN=2 -DKILLS=0
short good   $slot
short good   announce
short good   $sleeper
short good   stop
short good   spare -DDEATHS=1
short good   spare -DDEATHS=1 -DENTRIES=3
short mutant $wake -DMUTANT_NAME_AFTER
short mutant $wake -DMUTANT_NO_WAKE_AFTER_DEATH
short mutant $wake -DMUTANT_ONLY_ITS_OWN_NAME
short mutant $wake -DMUTANT_ONLY_THE_SEARCHER_WAKES
short mutant $wake -DMUTANT_SLEEP_WITHOUT_LOOK
short mutant $wake -DMUTANT_THROTTLE_NOT_REPAIRED
short mutant $slot -DMUTANT_CUR_AFTER_CLAIM
short mutant $slot -DMUTANT_HEAD_BEFORE_CLAIM
short mutant $slot -DMUTANT_INCARNATION_NOT_RAISED
short mutant $slot -DMUTANT_NOT_PUT_BACK
short mutant $slot -DMUTANT_NO_LIMBO
short mutant $slot -DMUTANT_OWNER_AFTER_STATE
short mutant $slot -DMUTANT_PUBLISH_BEFORE_DATA
short mutant $slot -DMUTANT_RUNNING_PUT_BACK
short mutant $slot -DMUTANT_SETTLE_BEFORE_DEATH
short mutant $slot -DMUTANT_SETTLE_WITHOUT_SWAP
short mutant announce -DMUTANT_NOT_ANNOUNCED_AFTER_DEATH
short mutant announce -DMUTANT_NOT_ARMED
short mutant announce -DMUTANT_NO_BELL_AFTER_DEATH
short mutant announce -DMUTANT_RING_BEFORE_PUSH
short mutant $sleeper -DMUTANT_WAKE_DROPPED
short mutant $sleeper -DMUTANT_WANT_APART_FROM_THE_STATE
short mutant stop -DMUTANT_KILL_NOT_BOUND_TO_THE_OWNER
short mutant stop -DMUTANT_NOT_CONDEMNED
short mutant stop -DMUTANT_PUBLISH_WITHOUT_SWAP
short mutant stop -DMUTANT_SIGNAL_BEFORE_STOPPING
short mutant stop -DMUTANT_STOPPED_GOES_ON
short mutant stop -DMUTANT_STOPPED_NOT_SETTLED
short mutant spare -DENTRIES=3 -DMUTANT_LOST_SPARE_FORGOTTEN
short mutant spare -DMUTANT_NO_WAKE_AFTER_DEATH
short mutant spare -DMUTANT_SEATS_LOOKED_AT_ONCE
short mutant spare -DMUTANT_SEAT_LEFT_BEFORE_GIVEN
full  good   wake -DKILLS=0
full  good   wake -DS=1 -DN=2
full  good   wake -DW=3 -DS=1 -DN=2 -DKILLS=0
full  good   slot
full  good   slot -DSLOTS=1 -DCANCELS=1
full  good   announce -DSLOTS=2
full  good   announce -DSLEEPER=1
full  good   announce -DSLOTS=2 -DTASKS=3
full  good   stop -DKILLS=1
full  good   spare
full  good   spare -DENTRIES=3
full  mutant announce -DSLOTS=2 -DTASKS=3 -DMUTANT_DONE_TAKEN_FIRST
full  good   wake -DS=1 -DN=2 -DKILLS=2 BITSTATE
full  good   wake -DW=3 -DS=1 -DN=3 BITSTATE
full  good   slot -DKILLS=2 -DCANCELS=1 BITSTATE
full  mutant slot -DKILLS=2 -DCANCELS=1 -DMUTANT_NOTES_ALIKE BITSTATE
full  good   announce -DSLOTS=2 -DTASKS=3 -DKILLS=2 BITSTATE
full  good   stop -DKILLS=2 BITSTATE
full  good   spare -DDEATHS=3 BITSTATE
"

here=$(cd "$(dirname "$0")" && pwd)
form=${1:-short}
command -v spin >/dev/null || { echo "SPIN is not installed"; exit 77; }
work=$(mktemp -d) || exit 1
trap 'rm -rf "$work"' EXIT

# One line of the table, in a folder of its own. Its last line of output: states, and whether it was as expected. In the
# short form most take longer to compile than to run. A mistake is mostly found sooner when the processes take their
# turns in the other order; where there is none all states are looked at in either.
run() { # number, expectation, model, options...
	local number=$1 expected=$2 model=$3 flags="-O1 -DCOLLAPSE -DMEMLIM=8000" table=24 found=mutant word
	shift 3
	mkdir "$work/$number" && cd "$work/$number" || return 1
	[ "${*: -1}" != BITSTATE ] || { set -- "${@:1:$#-1}"; flags="-O2 -DBITSTATE"; }
	[ "$form" = full ] || { flags="-O0"; table=20; }
	[ "$expected" = good ] || [[ $flags == *BITSTATE ]] || flags+=" -DREVERSE"
	{ spin -a "$@" "$here/$model.pml" && gcc -w -DSAFETY $flags -o pan pan.c && ./pan -m1000000 -w$table; } >log 2>&1
	grep -q 'errors: 0$' log && ! grep -q 'max search depth too small' log && found=good
	grep -q 'errors: ' log || found=nothing
	[ "$found" = "$expected" ] && word=ok || word=FAILED
	printf '%-6s %-6s %10s states  %s %s\n' "$word" "$expected" "$(awk '/states, stored/ { print $1 }' log)" "$model" "$*" \
		>result
	[ "$word" = ok ] || tail -n 15 log >>result
}

# A mutant that stands in a model and not in the table would never be looked for.
for name in $(grep -oh 'MUTANT_[A-Z_]*' "$here"/*.pml | sort -u); do
	grep -qE -- "-D$name( |\$)" <<<"$table" || { echo "FAILED $name is not in the table"; exit 1; }
done

number=0
while read -r when expected model options; do
	[ -n "$when" ] && { [ "$when" = short ] || [ "$form" = full ]; } || continue
	number=$((number + 1))
	run "$(printf %03d $number)" "$expected" "$model" $options &
	[ $number -lt 2 ] || wait -n
done <<<"$table"
wait
cat "$work"/*/result
failed=$(cat "$work"/*/result | grep -c "^FAILED")
states=$(cat "$work"/*/result | awk '$2 == "good" { n += $3 } END { printf "%.1f", n / 1e6 }')
echo "5 models, $(grep -l '^ok *good' "$work"/*/result | wc -l) configurations, $states million states without an error;" \
	"$(grep -l '^ok *mutant' "$work"/*/result | wc -l) of $(grep -lE '^[a-zA-Z]+ *mutant' "$work"/*/result | wc -l) mutants found"
[ "$failed" = 0 ]
