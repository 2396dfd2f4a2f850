#!/usr/bin/env bash
# libfaketime moves the clock that counts from the start of the machine to the time of day.
#
# Of:       libfaketime 0.9.10 (Debian 12)
# Input:    FAKETIME="+1d", and a program that reads its wall clock, its monotonic clock and its boot clock.
# Expected: the wall clock is a day ahead. A monotonic clock cannot be set, so it stays, or it is a day ahead as well.
# Seen:     all three clocks show the seconds since 1970. Ages that a program takes from /proc, which counts from the
#           start of the machine, become half a century. FAKETIME_DONT_FAKE_MONOTONIC=1 leaves both other clocks alone.
# Needs:    apt-get of Debian 12 on x86-64, Python 3
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

apt-get download libfaketime=0.9.10-2.1 >apt.log 2>&1
dpkg-deb --extract libfaketime_*.deb debian
library=$(echo debian/usr/lib/*/faketime/libfaketime.so.1)

cat >clocks.py <<'PYTHON'
import os
import time

day = 86_400
real = int(os.environ["REAL_TIME"])
real_boot = int(os.environ["REAL_BOOT"])


def word(clock, real):
    for name, where in (("real", real), ("a day ahead", real + day), ("the time of day", int(os.environ["REAL_TIME"]) + day)):
        if abs(clock - where) < 600:
            return name
    return str(clock)


print("wall clock:", word(time.time(), real))
print("monotonic clock:", word(time.clock_gettime(time.CLOCK_MONOTONIC), real_boot))
print("boot clock:", word(time.clock_gettime(time.CLOCK_BOOTTIME), real_boot))
PYTHON
REAL_TIME=$(date +%s)
REAL_BOOT=$(cut -d. -f1 /proc/uptime)
export REAL_TIME REAL_BOOT
{
    LD_PRELOAD="$PWD/$library" FAKETIME="+1d" python3 clocks.py
    echo "with FAKETIME_DONT_FAKE_MONOTONIC:"
    LD_PRELOAD="$PWD/$library" FAKETIME="+1d" FAKETIME_DONT_FAKE_MONOTONIC=1 python3 clocks.py
} >found
cat >seen <<'TEXT'
wall clock: a day ahead
monotonic clock: the time of day
boot clock: the time of day
with FAKETIME_DONT_FAKE_MONOTONIC:
wall clock: a day ahead
monotonic clock: real
boot clock: real
TEXT
diff seen found && cat found
