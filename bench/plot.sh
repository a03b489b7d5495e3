#!/bin/sh
# SPDX-License-Identifier: MIT
# Draws the table that run.sh has made: FOLDER/table.tsv becomes FOLDER/throughput.svg, the rates of ours and the peers with
# one and two workers, on a logarithmic scale. Without gnuplot it says so and is content.
set -eu
LC_ALL=C
export LC_ALL
out=$1

if ! command -v gnuplot >/dev/null 2>&1; then
	echo "bench: no plot: gnuplot is not here (see bench/install-peers.sh)" >&2
	exit 0
fi

# One line per name: its median, minimum and maximum with one worker, and the same with two; nan where there is none. Ours
# stands in the table once for each comparison: the last one counts.
awk -F '\t' '
	$2 ~ /^empty tasks, [12] worker/ { w = $2 ~ /, 1 / ? 1 : 2; v[$1, w] = $3 "\t" $5 "\t" $6
		if (!($1 in seen)) { seen[$1] = 1; order[++n] = $1 } }
	END { for (i = 1; i <= n; i++) { printf "\"%s\"", order[i]
		for (w = 1; w <= 2; w++) printf "\t%s", (order[i], w) in v ? v[order[i], w] : "nan\tnan\tnan"
		print "" } }' "$out/table.tsv" >"$out/throughput.dat"
[ -s "$out/throughput.dat" ] || exit 0

gnuplot <<END
set terminal svg size 1000,560 dynamic background "white"
set output "$out/throughput.svg"
set datafile separator tab
set title "Empty tasks per second (median, minimum to maximum)"
set logscale y
set format y "10^{%L}"
set ylabel "tasks/s"
set grid ytics
set style data histograms
set style histogram errorbars gap 1 lw 1
set style fill solid 0.8 border -1
set xtics rotate by -25
set key top right
plot "$out/throughput.dat" using 2:3:4:xtic(1) title "1 worker", "" using 5:6:7 title "2 workers"
END
echo "bench: drawn: $out/throughput.svg" >&2
