#!/usr/bin/env bash
# Submits one command as a run and follows it to its end, with nothing of dtf installed.
#
#   NATS_URL=nats://127.0.0.1:4222 NATS_USER=... NATS_PASSWORD=... ./submit.sh ci build-42 pytest -q
#
# Arguments: publisher, key, command. The same key twice is the same run (it is followed, not run again).
# Environment: DTF_POOL (main). Exit status: 0 passed, 1 anything else, 2 wrong use, 3 no server or log.
set -euo pipefail
[[ $# -ge 3 ]] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
publisher=$1 key=$2 pool=${DTF_POOL:-main}
shift 2
source "$(dirname "$0")/nats.bash"

# The run's id: the first 26 characters of the lower-case base32 of SHA-256 over "publisher/key".
digest=$(printf '%s' "$publisher/$key" | sha256sum | cut -c1-64 | sed 's/../\\x&/g')
run=$(printf "$digest" | base32 -w0 | tr 'A-Z' 'a-z' | cut -c1-26)

command=$(for word in "$@"; do json_string "$word" && printf ,; done)
events="[{\"type\":\"RunSubmitted\",\"key\":$(json_string "$key"),\"name\":$(json_string "$1")},
 {\"type\":\"TasksSubmitted\",\"part\":0,\"group\":\"task\",\"spec\":{\"command\":[${command%,}]}},
 {\"type\":\"RunSealed\",\"parts\":1,\"tasks\":1}]"

nats_connect || { echo "error: no NATS server at ${NATS_URL:-nats://127.0.0.1:4222}" >&2; exit 3; }
nats_request "dtf.$pool.run.$publisher.$run" "$events" || {
  echo "error: no stream took the run: is pool '$pool' made on this server?" >&2
  exit 3
}
[[ $nats_reply == *'"seq"'* ]] || { echo "error: the log refused it: $nats_reply" >&2; exit 3; }
echo "submitted run $run: $nats_reply" >&2

# A consumer without a name reads the run's rulings from the first one on, and ends with this connection.
rulings="$nats_inbox.rulings"
nats_subscribe "$rulings"
nats_request "\$JS.API.CONSUMER.CREATE.DTF_${pool}_LOG" "{\"stream_name\":\"DTF_${pool}_LOG\",\"config\":{
  \"filter_subject\":\"dtf.$pool.ruling.$run\",\"deliver_subject\":\"$rulings\",
  \"deliver_policy\":\"all\",\"ack_policy\":\"none\"}}"
[[ $nats_reply == *'"error"'* ]] && { echo "error: cannot follow run $run: $nats_reply" >&2; exit 3; }
over='\{"type":"(RunSettled"[^}]*\}|SubmissionRejected"[^}]*"fatal":true)\}'
until end=$(grep -oE "$over" <<<"$nats_payload"); do
  nats_next || { echo "error: the server went away; run $run goes on without us" >&2; exit 3; }
done
echo "$end"
[[ $end == *'"verdict":"passed"'* ]]
