#!/bin/sh
# For systems that start one process and keep it: enrolls if that was never done, then stays.
set -eu

umask 077
[ -e "$STATE_DIR/current" ] || "${FIRST_BOOT:-/usr/lib/device-agent/first-boot}"
exec device-agent --state "$STATE_DIR" run
