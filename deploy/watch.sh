#!/usr/bin/env bash
# Ends what Ray leaves behind on a machine of one's own: `ray down` ends Ray on the head only. There MLflow goes on; on
# the others Ray notices after a while and ends, but for its log monitor, which never does.
#   watch.sh keep   wait in the background until Ray has ended here; then end the rest of it, and MLflow
#   watch.sh stop   wait no longer: Ray is about to be started again
set -euo pipefail
venv=${SISR_VENV:-$HOME/venv}
lock=$HOME/.sisr-watch.lock

loop() {
  exec 9>> "$lock"
  flock --timeout 10 9 || exit 0
  echo $$ > "$lock"
  while pgrep -u "$(id -u)" -x raylet > /dev/null; do sleep 2 9>&-; done
  "$venv/bin/ray" stop 9>&-
  bash "$(dirname "$0")/mlflow.sh" stop 9>&-
}

case "${1:-}" in
  loop) loop ;;
  keep) setsid --fork bash "$0" loop >> ~/watch.log 2>&1 < /dev/null ;;
  stop) if ! flock --nonblock "$lock" true; then kill -- "-$(cat "$lock")"; fi ;;
  *) echo "watch.sh: no '${1:-}'; wanted keep or stop" >&2 && exit 2 ;;
esac
