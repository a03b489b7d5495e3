#!/bin/sh
# SPDX-License-Identifier: MIT
# Prints on what a table was measured: the machine, and the versions of ours and of all peers that are here. Lines of a
# name, a tab and a value.
set -u
: "${BENCH_SRCDIR:?is not set}"
LC_ALL=C
export LC_ALL

say() { # name, value; nothing where there is no value
	if [ -n "$2" ]; then printf '%s\t%s\n' "$1" "$2"; fi
}

of_cpu() { # name of a field in /proc/cpuinfo
	sed -n "s/^$1[[:space:]]*: *//p" /proc/cpuinfo | head -n 1
}

virtual() {
	kind=$(systemd-detect-virt --vm 2>/dev/null)
	if of_cpu flags | grep -qw hypervisor; then
		echo "yes${kind:+, $kind}"
	else
		echo "${kind:-no}" | sed 's/^none$/no/'
	fi
}

from_python() { # module
	${PYTHON3:-python3} -c "import $1; print($1.__version__)" 2>/dev/null
}

# In joblib, where there is no loky of its own; as bench/peers.py takes it.
loky() {
	from_python loky || ${PYTHON3:-python3} -c \
		'from joblib.externals import loky; print(loky.__version__, "(in joblib)")' 2>/dev/null
}

pebble() {
	${PYTHON3:-python3} -c 'from importlib.metadata import version; print(version("pebble"))' 2>/dev/null
}

model=$(of_cpu 'model name')
commit=$(git -C "$BENCH_SRCDIR" describe --always --dirty 2>/dev/null)
say date "$(date -u +%Y-%m-%d)"
say procpool "${BENCH_VERSION:-?}${commit:+, commit $commit}"
say CPU "${model:-$(uname -m)}, $(nproc) CPUs"
say virtual "$(virtual)"
say memory "$(awk '/^MemTotal/ { printf "%.1f GiB", $2 / 1048576 }' /proc/meminfo)"
say "clock source" "$(cat /sys/devices/system/clocksource/clocksource0/current_clocksource 2>/dev/null)"
say kernel "$(uname -sr)"
say system "$(sed -n 's/^PRETTY_NAME="\(.*\)"/\1/p' /etc/os-release 2>/dev/null)"
say libc "$(getconf GNU_LIBC_VERSION 2>/dev/null)"
say compiler "$(${BENCH_CC:-cc} --version 2>/dev/null | head -n 1)${BENCH_CFLAGS:+, $BENCH_CFLAGS}"
say libuv "$(pkg-config --modversion libuv 2>/dev/null)"
say GLib "$(pkg-config --modversion glib-2.0 2>/dev/null)"
say oneTBB "$(pkg-config --modversion tbb 2>/dev/null)"
say Boost "$(printf '#include <boost/version.hpp>\nBOOST_LIB_VERSION\n' | ${BENCH_CC:-cc} -E -P -x c - 2>/dev/null |
	sed -n 's/^"\(.*\)"$/\1/p' | tr _ .)"
say Python "$(${PYTHON3:-python3} -c 'import platform; print(platform.python_version())' 2>/dev/null)"
say pebble "$(pebble)"
say loky "$(loky)"
exit 0
