#!/bin/sh
# The emulated board of BOARD_TARGET as a container's only program: boots it on port 2222 of every address, and puts into
# /run/board what a client needs as its ~/.ssh, the private key and known_hosts. Both are made here, at the start.
set -eu
share=/run/board

rm -f "$share/id_ed25519" "$share/known_hosts"
trap 'edgeq board stop board && exit 0' INT TERM
board=$(edgeq board start "$BOARD_TARGET" --name board --listen 0.0.0.0:2222 --json)

field() { printf '%s' "$board" | python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }
install -m 600 "$EDGEQ_CACHE/board-keys/id_ed25519" "$share/id_ed25519"
printf '[%s]:2222,[localhost]:2222,[127.0.0.1]:2222 %s\n' "$BOARD_HOST" "$(field host_key)" > "$share/known_hosts"
echo "the board is up: ssh://edgeq@$BOARD_HOST:2222"

# The container's log is the board's console, and ends with the board. A shell waits for signals only in wait.
tail --pid="$(field pid)" -n +1 -f "$EDGEQ_CACHE/boards/board/serial.log" &
wait $! || true
echo "the board is gone" >&2
exit 1
