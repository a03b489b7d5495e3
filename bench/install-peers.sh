#!/bin/sh
# SPDX-License-Identifier: MIT
# Installs what `make bench` compares with and what it draws with, from Debian. Apart from bootstrap, because nothing else
# needs it and it is large. Run ./configure again afterwards: it looks for the libraries. As root, or with sudo.
set -eu

packages="libuv1-dev libglib2.0-dev libtbb-dev libboost-dev python3 python3-pebble python3-joblib gnuplot-nox valgrind"

as_root=
[ "$(id -u)" = 0 ] || as_root="sudo -n"
$as_root apt-get update -qq
DEBIAN_FRONTEND=noninteractive $as_root apt-get install -y -qq --no-install-recommends $packages >/dev/null
