"""A real SLURM of one node on this machine, for as long as a test needs it."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from experiments.launch.local import free_port

PROGRAMS = ("munged", "mungekey", "slurmctld", "slurmd", "sbatch", "scontrol")

CONFIG = """
ClusterName=one
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=5,batch_sched_delay=1
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
ReturnToService=2
KillWait=10
SlurmdTimeout=15
MinJobAge=3600
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=1000 State=UNKNOWN
PartitionName=low Nodes=ALL Default=YES MaxTime=INFINITE State=UP PriorityTier=1 PreemptMode=REQUEUE GraceTime=20
PartitionName=high Nodes=ALL MaxTime=INFINITE State=UP PriorityTier=10 PreemptMode=OFF
"""


def lacking() -> list[str]:
    """What is not installed here, or why it cannot be run."""
    path = f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin"
    missing = [name for name in PROGRAMS if shutil.which(name, path=path) is None]
    return missing or ([] if os.geteuid() == 0 else ["root"])


class Cluster:
    """A context manager: the daemons run inside of it, and `SLURM_CONF` names its configuration."""

    def __init__(self, folder: Path):
        self.folder, self._daemons = folder, []

    def __enter__(self):
        for name in ("state", "spool"):
            (self.folder / name).mkdir(parents=True)
        os.chmod(self.folder, 0o755)
        self._before = {name: os.environ.get(name) for name in ("SLURM_CONF", "PATH")}
        os.environ["PATH"] += ":/usr/sbin:/usr/local/sbin"
        os.environ["SLURM_CONF"] = str(self.folder / "slurm.conf")
        host = socket.gethostname().split(".")[0]
        ports = {"controller_port": free_port(), "node_port": free_port()}
        (self.folder / "slurm.conf").write_text(CONFIG.format(host=host, folder=self.folder, **ports))
        self.host = host
        subprocess.run(["mungekey", "--create", f"--keyfile={self.folder}/munge.key"], check=True)
        kinds = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        options = [f"--{option}={self.folder}/munge.{suffix}" for option, suffix in kinds.items()]
        self._start("munged", "--foreground", "--force", *options)
        self._until(lambda: (self.folder / "munge.socket").exists(), "munged")
        self._start("slurmctld", "-D")
        self.start_node()
        return self

    def __exit__(self, *_):
        with contextlib.suppress(subprocess.CalledProcessError):
            run("scancel", "--full", "--user=root")
        time.sleep(1)
        for daemon in reversed(self._daemons):
            daemon.terminate()
        for daemon in self._daemons:
            try:
                daemon.wait(timeout=10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    def start_node(self):
        """Starts the node's daemon, and waits until it takes jobs."""
        self.node = self._start("slurmd", "-D", "-N", self.host)
        self._until(
            lambda: run("sinfo", "-h", "-p", "low", "-o", "%T").strip() in ("idle", "mixed", "allocated"), "slurmd"
        )

    def kill_node(self):
        """Kills the node's daemon; its job goes on."""
        self.node.kill()
        self.node.wait()
        self._daemons.remove(self.node)

    def _start(self, *command):
        log = (self.folder / f"{command[0]}.out").open("ab")
        self._daemons.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))
        return self._daemons[-1]

    def _until(self, ready, what):
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with contextlib.suppress(subprocess.CalledProcessError):
                if ready():
                    return
            time.sleep(0.3)
        logs = "".join(path.read_text()[-1500:] for path in self.folder.glob("*.out"))
        raise TimeoutError(f"{what} did not start: {logs}")


def run(*command: str) -> str:
    """The output of a SLURM command. Raises CalledProcessError where it fails."""
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def states(job: str) -> list[str]:
    """The states of the tasks of an array, as the controller tells them."""
    lines = run("scontrol", "--oneliner", "show", "job", job).splitlines()
    return [word.partition("=")[2] for line in lines for word in line.split() if word.startswith("JobState=")]
