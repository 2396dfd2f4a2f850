#!/usr/bin/env bash
# Makes the calls of a plan with curl, as steps.mjs does with a client for Node. The first call, which gets the token,
# has a run of its own; all others share one run.
#
#     steps.sh BASE PLAN FOLDER
set -euo pipefail
base=$1 plan=$2 folder=$3

number=0
token=
calls=()
add() {
    [ "${#calls[@]}" -eq 0 ] || calls+=(--next)
    calls+=(-sS --noproxy '*' --max-time 20 -w '%{http_code}\t%header{cache-status}\n')
    # For HEAD curl would write the head to the file of the body, so its output is dropped.
    case $method in HEAD) calls+=(-I -o /dev/null) ;; *) calls+=(-X "$method" -o "$folder/$number") ;; esac
    calls+=(-H 'Accept: application/json')
    [ -z "$token" ] || calls+=(-H "Authorization: Bearer $token")
    [ "$key" = - ] || calls+=(-H "Sezzle-Request-Id: $key")
    if [ "$framing" != none ]; then
        calls+=(-H 'Content-Type: application/json' --data-binary "$body")
        [ "$framing" != chunked ] || calls+=(-H 'Transfer-Encoding: chunked')
        [ "$framing" != expect ] || calls+=(-H 'Expect: 100-continue')
    fi
    calls+=("$base$target")
    number=$((number + 1))
}

IFS=$'\t' read -r method target framing key body <"$plan"
add
curl "${calls[@]}"
token=$(grep -oE '"token": ?"[^"]+"' "$folder/0" | cut -d '"' -f 4)
calls=()
while IFS=$'\t' read -r method target framing key body; do add; done < <(tail -n +2 "$plan")
# curl writes the code 000 for a call without an answer.
curl "${calls[@]}" || true
