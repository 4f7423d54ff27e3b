# A NATS client of a hundred lines: bash and coreutils, nothing else. Source it.
#
# It does what `nats req` does and a little more, for machines without the `nats` program:
#   nats_connect            enters $NATS_URL (nats://[user:password@]host[:port]) on file descriptor
#                           7, as $NATS_USER with $NATS_PASSWORD where the URL names nobody
#   nats_request SUBJECT P  the reply to payload P in $nats_reply; status 1 when nobody answers
#   nats_subscribe SUBJECT  from now on nats_next yields messages of that subject
#   nats_next               the next message in $nats_subject and $nats_payload; status 1 at the end
# Plain text connections only, no TLS. Lengths on the wire are bytes, hence LC_ALL=C.
LC_ALL=C
nats_inbox="_INBOX.bash.$$.$RANDOM$RANDOM"
nats_sids=0
nats_queue=() # subjects and payloads that came while a request waited for its reply

nats_connect() {
  local rest=${NATS_URL:-nats://127.0.0.1:4222} user=${NATS_USER:-} login="" line
  local password=${NATS_PASSWORD:-}
  rest=${rest#nats://}
  if [[ $rest == *@* ]]; then
    user=${rest%%:*} rest=${rest#*:}
    password=${rest%@*} rest=${rest##*@}
  fi
  [[ -n $user ]] && login=",\"user\":$(json_string "$user"),\"pass\":$(json_string "$password")"
  local port=4222
  [[ $rest == *:* ]] && port=${rest##*:}
  exec 7<>"/dev/tcp/${rest%:*}/${port%/}" || return 1
  read -r line <&7 # INFO {...}
  nats_send "CONNECT {\"verbose\":false,\"lang\":\"bash\",\"version\":\"1\",\"no_responders\":true,\"headers\":true$login}"
  nats_send PING
  read -r line <&7
  [[ $line == PONG* ]] && return 0
  echo "error: the server refuses: ${line%$'\r'}" >&2
  return 1
}

nats_send() { printf '%s\r\n' "$1" >&7; }

nats_subscribe() {
  nats_sids=$((nats_sids + 1))
  nats_send "SUB $1 $nats_sids"
}

nats_request() {
  local reply="$nats_inbox.$RANDOM$RANDOM"
  nats_subscribe "$reply"
  nats_send "PUB $1 $reply ${#2}"
  nats_send "$2"
  while nats_read; do
    if [[ $nats_subject != "$reply" ]]; then
      nats_queue+=("$nats_subject" "$nats_payload")
      continue
    fi
    nats_send "UNSUB $nats_sids"
    nats_reply=$nats_payload
    [[ -n $nats_reply ]] # "no responders" has headers and no body
    return
  done
  return 1
}

nats_next() {
  if ((${#nats_queue[@]})); then
    nats_subject=${nats_queue[0]} nats_payload=${nats_queue[1]}
    nats_queue=("${nats_queue[@]:2}")
    return 0
  fi
  nats_read
}

nats_read() {
  local line words header
  while read -r line <&7; do
    line=${line%$'\r'}
    read -ra words <<<"$line"
    case $line in
      PING*) nats_send PONG ;;
      -ERR*) echo "error: $line" >&2 && return 1 ;;
      MSG* | HMSG*)
        nats_subject=${words[1]}
        header=0
        [[ $line == HMSG* ]] && header=${words[-2]}
        IFS= read -r -N "$((words[-1] + 2))" nats_payload <&7
        nats_payload=${nats_payload:header:words[-1]-header}
        return 0
        ;;
    esac
  done
  return 1
}

# The text as a JSON string, quotes included.
json_string() {
  local text=${1//\\/\\\\}
  text=${text//\"/\\\"}
  text=${text//$'\n'/\\n}
  text=${text//$'\t'/\\t}
  printf '"%s"' "${text//$'\r'/\\r}"
}
