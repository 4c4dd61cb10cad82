#!/usr/bin/env bash
# Prepares one node of a cluster, head or worker: shared storage, Python, this project by its constraints. Runs again
# at every `ray up`, and does only what is missing. Settings come from ~/sisr.settings, which the cluster file writes:
#   SISR_SHARED   folder that every node sees: runs and checkpoints
#   SISR_NFS      host:/path to mount there; unset where it is mounted already
#   SISR_BUNDLE   folder of an offline bundle (`make bundle EXTRAS=cluster`), for nodes without a package index
set -euo pipefail
# shellcheck source=/dev/null
. ~/sisr.settings
: "${SISR_SHARED:?write SISR_SHARED to ~/sisr.settings}"
project=${SISR_PROJECT:-$HOME/sisr-code}
venv=${SISR_VENV:-$HOME/venv}

# Debian's and Ubuntu's packages that are missing; another process may hold the lock of a node that has just started.
missing=()
command -v tmux > /dev/null || missing+=(tmux)
command -v pgrep > /dev/null || missing+=(procps)
python3 -c 'import ensurepip' 2> /dev/null || missing+=(python3-venv)
[ -z "${SISR_NFS:-}" ] || command -v mount.nfs4 > /dev/null || missing+=(nfs-common)
if [ ${#missing[@]} -gt 0 ]; then
  sudo apt-get -qq -o DPkg::Lock::Timeout=300 update
  sudo DEBIAN_FRONTEND=noninteractive apt-get -qq -y -o DPkg::Lock::Timeout=300 install "${missing[@]}"
fi

# Shared storage: hard, so that an outage makes programs wait instead of losing what they write.
if [ -n "${SISR_NFS:-}" ] && ! mountpoint -q "$SISR_SHARED"; then
  sudo mkdir -p "$SISR_SHARED"
  sudo mount -t nfs4 -o nfsvers=4.1,rsize=1048576,wsize=1048576,hard,timeo=600,retrans=2,noresvport \
    "$SISR_NFS" "$SISR_SHARED"
  sudo chown "$(id -u):$(id -g)" "$SISR_SHARED"
fi
mkdir -p "$SISR_SHARED/runs"
if [ -d ~/runs ] && [ ! -L ~/runs ]; then
  echo "$HOME/runs is a folder of this node alone: move it to $SISR_SHARED/runs" >&2
  exit 1
fi
ln -sfn "$SISR_SHARED/runs" ~/runs # so that the default of --runs is shared, wherever the home folder is

# The project, editable: what `ray rsync-up` renews counts at once. Installed anew when what it depends on changes.
stamp=$venv/.sisr-$(cat "$project/pyproject.toml" "$project/constraints.txt" | cksum | cut -d ' ' -f 1)
if [ ! -e "$stamp" ]; then
  if [ -n "${SISR_BUNDLE:-}" ]; then
    rm -rf "$venv"
    "$SISR_BUNDLE/install.sh" "$venv"
    "$venv/bin/python" -m pip install --quiet --no-index --no-build-isolation --no-deps -e "$project"
  else
    python3 -m venv "$venv"
    pip=("$venv/bin/python" -m pip install --quiet --disable-pip-version-check -c "$project/constraints.txt")
    "${pip[@]}" --upgrade pip setuptools
    "${pip[@]}" --no-build-isolation -e "${project}[cluster]"
  fi
  rm -f "$venv"/.sisr-*
  touch "$stamp"
fi
"$venv/bin/python" -m sisr.disk.code_revision prune

# What every shell of the cluster finds, also those of `ray submit` and `ray exec`.
cat > ~/sisr.env << ENV
export PATH="$venv/bin:\$PATH" RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 MLFLOW_DISABLE_TELEMETRY=true
export MLFLOW_TRACKING_URI=http://127.0.0.1:${SISR_MLFLOW_PORT:-5000}
ENV
grep -qs 'sisr.env' ~/.bashrc || echo '. ~/sisr.env' >> ~/.bashrc
