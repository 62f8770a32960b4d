#!/bin/sh
# One deployment of the application in supervisord.conf, without a gap: start the copy that does not run,
# let kproxy switch to it, stop the other. If the new one does not become healthy, it is stopped, and
# the old one, which never stopped serving, stays.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
export KPROXY_SOCKET="${KPROXY_SOCKET:-$here/kproxy.sock}"

control() {
    supervisorctl -c "$here/supervisord.conf" "$@"
}

if control status blue | grep -q RUNNING; then
    old=blue new=green port=3002
else
    old=green new=blue port=3001
fi

control start "$new"
if ! kproxy deploy shop --target "127.0.0.1:$port" --health-check-path /up; then
    control stop "$new"
    exit 1
fi
# The old copy has no request any more: `deploy` has waited for that.
control stop "$old"
