#!/usr/bin/env bash
# MLflow's server for the head: loopback only, no jobs, artifacts through the server.
#   mlflow.sh        serve, in the foreground: for a service manager
#   mlflow.sh keep   serve in the background, started again whenever it dies; nothing where it is kept already
#   mlflow.sh stop   end what `keep` started
# Settings come from ~/sisr.settings:
#   SISR_DATABASE    SQLAlchemy address; default: a SQLite file on this machine's own disk
#   SISR_ARTIFACTS   s3://..., or a folder
#   SISR_MLFLOW_PORT default 5000
set -euo pipefail
# shellcheck source=/dev/null
. ~/sisr.settings
venv=${SISR_VENV:-$HOME/venv}
lock=$HOME/.sisr-mlflow.lock

serve() {
  # The database's address may hold a password, and `ps` shows command lines: it goes by the environment.
  export MLFLOW_BACKEND_STORE_URI=${SISR_DATABASE:-sqlite:///$HOME/mlflow.db}
  export MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false MLFLOW_DISABLE_TELEMETRY=true
  unset MLFLOW_TRACKING_URI
  exec "$venv/bin/python" -m mlflow server --host 127.0.0.1 --port "${SISR_MLFLOW_PORT:-5000}" --workers 1 \
    --artifacts-destination "${SISR_ARTIFACTS:?write SISR_ARTIFACTS to ~/sisr.settings}"
}

loop() {
  exec 9>> "$lock"
  flock -n 9 || exit 0
  echo $$ > "$lock"
  while true; do
    (serve) 9>&- || true
    sleep 2
  done
}

case "${1:-}" in
  "") serve ;;
  loop) loop ;;
  keep) setsid --fork bash "$0" loop >> ~/mlflow.log 2>&1 < /dev/null ;;
  stop) if ! flock -n "$lock" true; then kill -- "-$(cat "$lock")"; fi ;;
  *) echo "mlflow.sh: no '$1'; wanted nothing, keep or stop" >&2 && exit 2 ;;
esac
