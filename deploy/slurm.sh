#!/usr/bin/env bash
# Runs a pipeline over the nodes of one Slurm allocation. In the project's folder, on storage that all nodes mount:
#   sbatch --nodes 2 --gpus-per-node 4 deploy/slurm.sh train srgan_gp --data PHOTOS --name first --workers 8
#   sbatch --nodes 2 --gpus-per-node 4 deploy/slurm.sh tune srez --data FACES
# Before its time ends (--signal below) the run saves, and the job is queued again and goes on: the command is the same
# one. `scancel --batch --signal=TERM JOB` saves and ends it. Ray ends with the job, and so do all its processes.
#   SISR_VENV            environment with this project; default: .venv in this folder
#   MLFLOW_TRACKING_URI  server, wanted where there are several nodes; while it can't be reached from them, what belongs
#                        there waits in the run's folder, and `sisr sync` brings it
# Slurm's own options, above all --partition, --account and --time, are given to sbatch, or changed here:
#SBATCH --job-name=sisr
#SBATCH --output=slurm-%j.log
#SBATCH --open-mode=append
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --mem=0
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
# shellcheck disable=SC2016,SC2329  # shells on the nodes, and traps, call the functions and replace the variables
set -uo pipefail

fail() { echo "slurm.sh: $1" >&2; exit 2; }
[ -n "${SLURM_JOB_ID:-}" ] || fail "is a batch script: sbatch deploy/slurm.sh train RECIPE ..."
[ $# -gt 0 ] || fail "wants a pipeline and its words: sbatch deploy/slurm.sh train RECIPE ..."
pipeline=$1 && shift
cd "$SLURM_SUBMIT_DIR" && [ -f "pipelines/$pipeline.py" ] || fail "no pipelines/$pipeline.py in $SLURM_SUBMIT_DIR: \
submit it in the project's folder, with train, tune or another pipeline as its first word"
case "$pipeline $*" in
  *--tracking-uri*) ;;
  train\ * | tune\ *)
    [ "$SLURM_JOB_NUM_NODES" = 1 ] || [ -n "${MLFLOW_TRACKING_URI:-}" ] || fail "on several nodes MLflow's records go to \
a server, not to a file: export MLFLOW_TRACKING_URI=http://HOST:PORT before sbatch; one that the nodes can't reach will do" ;;
esac
venv=$(realpath "${SISR_VENV:-.venv}") && [ -x "$venv/bin/ray" ] || fail "no Ray in $venv: make install, or set SISR_VENV"

# The batch script runs on the first node, which becomes Ray's head. Ray must know it by an address that others reach.
head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address=$(getent ahostsv4 "$head" | awk '$1 !~ /^127\./ { print $1; exit }')
address=${address:-$(hostname -I | cut -d ' ' -f 1)}
# Each job has its own ports and its own token, so that jobs of several users can share a network.
first=$((20000 + SLURM_JOB_ID % 1000 * 12))
port() { echo $((first + $1)); }
PATH=$venv/bin:$PATH
export PATH RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 MLFLOW_DISABLE_TELEMETRY=true PYTHONUNBUFFERED=1
RAY_AUTH_TOKEN=$(od -An -N32 -tx1 /dev/urandom | tr -d ' \n') && export RAY_AUTH_TOKEN
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=${RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT:-180}
unset RAY_ADDRESS

RESTARTS=3 # of a job in which Ray does not start
state=$(mktemp -d) && export state # on the head alone: the driver's number while it runs, and how it ended
trap 'rm -rf "$state"' EXIT
requeue='' ended=''
save() { [ ! -s "$state/driver" ] || kill -TERM "$(cat "$state/driver")" 2> /dev/null; } # it may have ended by itself
trap 'requeue=yes; echo "slurm.sh: time is nearly over: saving"; save' USR1
trap 'requeue=; ended=yes; echo "slurm.sh: asked to end: saving"; save' TERM

# What Ray runs on the head once all nodes are there.
driver() {
  python "$@" &
  echo $! > "$state/driver"
  wait $!
  local code=$?
  echo "$code" > "$state/ended"
  return "$code"
}

# What Slurm runs on each node: `ray start`, and on the first one the driver. Others take no options of a head's.
node() {
  local ports=(--object-manager-port "$(port 1)" --node-manager-port "$(port 2)" --metrics-export-port "$(port 3)"
    --runtime-env-agent-port "$(port 4)" --dashboard-agent-listen-port "$(port 5)"
    --dashboard-agent-grpc-port "$(port 6)")
  [ "$SLURM_PROCID" != 0 ] || ports+=(--ray-client-server-port "$(port 7)" --include-dashboard=false)
  # A job before this one that was killed may have left its Ray here; the node is ours alone (--exclusive).
  ray stop --force > /dev/null 2>&1
  exec ray symmetric-run --address "$address:$(port 0)" --min-nodes "$SLURM_JOB_NUM_NODES" \
    --num-cpus "$SLURM_CPUS_ON_NODE" "${ports[@]}" -- bash -c 'driver "$@"' driver "$@"
}

export first address
export -f port node driver
srun --ntasks-per-node=1 --cpus-per-task="$SLURM_CPUS_ON_NODE" --wait=3 \
  bash -c 'node "$@"' node "pipelines/$pipeline.py" "$@" &
step=$!
wait "$step"
code=$?
while kill -0 "$step" 2> /dev/null; do wait "$step"; code=$?; done # a signal ends a wait
[ ! -s "$state/ended" ] || code=$(cat "$state/ended")

# Ray's processes have said a lot since the pipeline ended: the last word is whether it went well.
case $code in
  0) echo "slurm.sh: $pipeline has ended well (0); what stands above this, since its own last line, is Ray's end" ;;
  75) echo "slurm.sh: $pipeline has saved (75); the same command goes on" ;;
  *) echo "slurm.sh: $pipeline has ended with $code; its message stands above Ray's end" ;;
esac
if [ "$code" != 0 ] && [ ! -s "$state/driver" ] && [ -z "$ended" ]; then
  echo "slurm.sh: Ray did not start on all $SLURM_JOB_NUM_NODES nodes; its messages are above"
  if [ "${SLURM_RESTART_COUNT:-0}" -lt "$RESTARTS" ]; then
    echo "slurm.sh: queued again, $((${SLURM_RESTART_COUNT:-0} + 1)) of at most $RESTARTS times"
    trap "" TERM
    scontrol requeue "$SLURM_JOB_ID"
  fi
fi
if [ "$code" = 75 ] && [ -n "$requeue" ]; then
  echo "slurm.sh: saved; queued again"
  trap "" TERM # by which Slurm ends this script
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
