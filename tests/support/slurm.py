"""A Slurm of its own for tests: a controller and nodes, on simulated hosts."""

import os
import shutil

from hosts import PATH, USER, Host

# Each with the Debian package that brings it.
TOOLS = {"munged": "munge", "sbatch": "slurm-client", "slurmctld": "slurmctld", "slurmd": "slurmd"}
CONFIGURATION = """\
ClusterName=lab
SlurmctldHost={controller}({address})
AuthType=auth/munge
AuthInfo=cred_expire=10
SlurmUser=root
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
KillWait=10
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
StateSaveLocation=/var/spool/slurmctld
SlurmdSpoolDir=/var/spool/slurmd
SlurmctldLogFile=/var/log/slurmctld.log
SlurmdLogFile=/var/log/slurmd.log
{nodes}
PartitionName=lab Nodes=ALL Default=YES MaxTime=60 State=UP
"""
# Slurm wants control groups to be mounted, though nothing here is controlled by them.
CGROUPS = "mount -t tmpfs none /sys/fs/cgroup; echo CgroupPlugin=cgroup/v1 > /etc/slurm/cgroup.conf"
MUNGE = "mkdir -p /run/munge; chown munge /run/munge; runuser -u munge -- /usr/sbin/munged"


def missing() -> str | None:
    """Return why there can be no Slurm here; None where there can."""
    absent = sorted({package for tool, package in TOOLS.items() if not shutil.which(tool, path=PATH)})
    return f"not installed: {', '.join(absent)}" if absent else None


def start(controller: Host, nodes: list[Host]) -> None:
    """Start a cluster whose nodes are free when this returns."""
    lines = [f"NodeName={node.name} NodeAddr={node.address} CPUs={os.cpu_count()} RealMemory=4000" for node in nodes]
    text = CONFIGURATION.format(controller=controller.name, address=controller.address, nodes="\n".join(lines))
    for host in (controller, *nodes):
        write = "mkdir -p /etc/slurm /var/spool/slurmctld /var/spool/slurmd; cat > /etc/slurm/slurm.conf"
        host.run("sh", "-c", write, user="root", stdin=text)
        host.run("sh", "-c", f"{CGROUPS}; {MUNGE}", user="root")
    controller.run("slurmctld", user="root")
    for node in nodes:
        node.run("slurmd", user="root")
    wait = f"until [ $(sinfo -h -N -t idle | wc -l) = {len(nodes)} ]; do sleep 0.5; done"
    controller.run("sh", "-c", wait, user=USER, timeout_s=60)
