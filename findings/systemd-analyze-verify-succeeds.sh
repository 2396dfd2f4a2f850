#!/usr/bin/env bash
# `systemd-analyze verify` succeeds for a unit whose settings will be ignored.
#
# Of:       systemd-analyze 252 (Debian 12)
# Input:    a service with a misspelt key, a value that cannot be read, a misspelt section, a user that does not exist,
#           and credentials from a file that does not exist, one at a time.
# Expected: CI asks verify whether a unit is right, so a setting that will be ignored is a failure, just like a command
#           that does not exist.
# Seen:     exit code 0 for all. Only a line on standard error reports the first three. Nothing reports the user and the
#           credentials, without which the unit will not start.
# Needs:    systemd-analyze 252, the one of Debian 12
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

systemd-analyze --version | head -n 1 | grep -q '^systemd 252 ' || { echo "not systemd 252"; exit 2; }
check() {
    local name=$1 code=0
    printf '[Service]\nExecStart=/bin/true\n%b\n' "$2" >finding.service
    systemd-analyze verify ./finding.service >told 2>&1 || code=$?
    echo "$name: $code, $(grep -q finding.service told && echo "says something" || echo "says nothing")"
}
{
    check "misspelt key" 'TimoutStopSec=5'
    check "misspelt value" 'Restart=allways'
    check "misspelt section" '[Servce]\nUser=root'
    check "no such user" 'User=nobody-of-this-name'
    check "no such credential" 'LoadCredential=key:/nowhere/key'
    check "no such command" 'ExecStartPre=/nowhere/command'
} >found
cat >seen <<'TEXT'
misspelt key: 0, says something
misspelt value: 0, says something
misspelt section: 0, says something
no such user: 0, says nothing
no such credential: 0, says nothing
no such command: 1, says something
TEXT
diff seen found && cat found
