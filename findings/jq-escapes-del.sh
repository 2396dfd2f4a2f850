#!/usr/bin/env bash
# Two JSON writers do not give one text, even for objects of strings and small integers: jq escapes U+007F.
#
# Of:       jq 1.6 (Debian 12), beside Python's json without escapes for other characters
# Input:    objects with one member each: plain text, a slash, a character outside ASCII, a line feed, U+007F (DEL), a
#           small integer and one above 2^53. Both programs write them without spaces.
# Expected: JSON only demands escapes for quotes, backslashes and the characters below U+0020, so both texts are equal
#           and have one hash, but for the large integer, which jq keeps as a float.
# Seen:     jq writes U+007F as \u007f, and Python as it is. All other strings are equal.
# Needs:    apt-get of Debian 12 on x86-64, Python 3
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

apt-get download jq=1.6-2.1+deb12u3 libjq1=1.6-2.1+deb12u3 libonig5=6.9.8-1 >apt.log 2>&1
for package in *.deb; do dpkg-deb --extract "$package" debian; done
LD_LIBRARY_PATH=$(echo "$PWD"/debian/usr/lib/*-linux-gnu)
export LD_LIBRARY_PATH

cat >rewrite.py <<'PYTHON'
import json
import sys

for line in sys.stdin.buffer:
    print(json.dumps(json.loads(line), separators=(",", ":"), ensure_ascii=False))
PYTHON
printf '%s\n' '{"text":"capture"}' '{"slash":"a\/b"}' '{"accent":"\u00e9"}' '{"line feed":"a\nb"}' '{"delete":"a\u007fb"}' \
    '{"small":4711}' '{"large":9007199254740993}' >lines
debian/usr/bin/jq -c . lines >by-jq
PYTHONIOENCODING=utf-8 python3 rewrite.py <lines >by-python
paste -d '\n' by-jq by-python | while IFS= read -r by_jq && IFS= read -r by_python; do
    echo "$(cut -d '"' -f 2 <<<"$by_jq"): $([ "$by_jq" = "$by_python" ] && echo equal || echo differs)"
done >found
cat >seen <<'TEXT'
text: equal
slash: equal
accent: equal
line feed: equal
delete: differs
small: equal
large: differs
TEXT
diff seen found && cat found
