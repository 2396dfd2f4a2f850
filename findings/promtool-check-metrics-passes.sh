#!/usr/bin/env bash
# `promtool check metrics` finds nothing wrong with histograms that contradict themselves and counters below zero.
#
# Of:       promtool 2.42.0 (Debian 12)
# Input:    metrics in the text format, each with HELP and TYPE: buckets that fall, no bucket +Inf, a bucket +Inf that
#           is not the count, a counter of -1, and one series twice with two values.
# Expected: a linter of exposed metrics reports all five: by the format's specification buckets are cumulative, +Inf
#           exists and equals the count, counters are not negative, and each line is another series.
# Seen:     exit code 0 and not a word for all five. A name without `_total` and a missing line feed at the end do fail.
# Needs:    apt-get of Debian 12 on x86-64
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

apt-get download prometheus=2.42.0+ds-5+deb12u1 >apt.log 2>&1
dpkg-deb --extract prometheus_*.deb debian

check() {
    local name=$1 code=0
    printf "$2" | debian/usr/bin/promtool check metrics >told 2>&1 || code=$?
    echo "$name: $code, $([ -s told ] && echo "says something" || echo "says nothing")"
}
histogram='# HELP a_seconds A.\n# TYPE a_seconds histogram\n'
counter='# HELP a_total A.\n# TYPE a_total counter\n'
{
    check "falling buckets" "${histogram}a_seconds_bucket{le=\"1\"} 5\na_seconds_bucket{le=\"2\"} 3\na_seconds_bucket{le=\"+Inf\"} 4\na_seconds_sum 1\na_seconds_count 4\n"
    check "no bucket +Inf" "${histogram}a_seconds_bucket{le=\"1\"} 5\na_seconds_sum 1\na_seconds_count 7\n"
    check "+Inf is not the count" "${histogram}a_seconds_bucket{le=\"+Inf\"} 4\na_seconds_sum 1\na_seconds_count 5\n"
    check "a counter of -1" "${counter}a_total -1\n"
    check "a series twice" "${counter}a_total 1\na_total 2\n"
    check "a name without _total" "# HELP a A.\n# TYPE a counter\na 1\n"
    check "no line feed at the end" "${counter}a_total 1"
} >found
cat >seen <<'TEXT'
falling buckets: 0, says nothing
no bucket +Inf: 0, says nothing
+Inf is not the count: 0, says nothing
a counter of -1: 0, says nothing
a series twice: 0, says nothing
a name without _total: 3, says something
no line feed at the end: 1, says something
TEXT
diff seen found && cat found
