"""Several processes as one: how they find each other, and how they agree.

    ECG_COORDINATOR=host:port ECG_PROCESSES=4 ECG_PROCESS=0    explicit; in an indexed Kubernetes Job, ECG_PROCESS is
                                                               JOB_COMPLETION_INDEX
    srun --ntasks=4 python -m experiments.…                    SLURM, a task each
    ECG_CLUSTER=tpu                                            a Cloud TPU pod, a worker per host

Nothing is tried out: the environment says what it is, and what it says is checked. One process, the first, writes to
the store; all others follow its decisions.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import os
from collections.abc import Mapping

import jax
from rich.console import Console
from rich.table import Table

from ecg_jax.distributed.agreement import is_primary
from ecg_jax.distributed.rendezvous import ProcessesError, roll_call

#: Seconds after which silent processes are given up by the runtime (its default of 100 s took 89 s to notice a kill),
#: and in which all must have come.
HEARTBEAT_SECONDS, ARRIVAL_SECONDS = 30, 50


class Cluster(enum.StrEnum):
    """How processes find each other."""

    SINGLE = "single"
    EXPLICIT = "explicit"
    SLURM = "slurm"
    TPU = "tpu"


@dataclasses.dataclass(frozen=True)
class Launch:
    """What the environment says of this process; None: the runtime finds it out."""

    cluster: Cluster
    coordinator: str | None = None
    processes: int | None = None
    process: int | None = None


def launch_of(environment: Mapping[str, str]) -> Launch:
    """Reads the variables of the module's docstring, and SLURM's own. Raises ValueError naming what is wrong."""
    cluster = environment.get("ECG_CLUSTER", "")
    if cluster and cluster not in list(Cluster):
        raise ValueError(f"ECG_CLUSTER is {cluster!r}: it is one of {', '.join(Cluster)}")
    if environment.get("ECG_COORDINATOR") and cluster in ("", Cluster.EXPLICIT):
        return _explicit(environment)
    if cluster == Cluster.EXPLICIT:
        raise ValueError("ECG_CLUSTER is 'explicit', but ECG_COORDINATOR is not set: host:port of the first process")
    tasks = int(environment.get("SLURM_STEP_NUM_TASKS", "1"))
    if cluster == Cluster.SLURM or (not cluster and tasks > 1):
        if "SLURM_PROCID" not in environment:
            raise ValueError("ECG_CLUSTER is 'slurm', but SLURM_PROCID is not set: start the tasks with srun")
        return Launch(Cluster.SLURM, processes=tasks, process=int(environment["SLURM_PROCID"]))
    return Launch(Cluster(cluster or Cluster.SINGLE))


def _explicit(environment: Mapping[str, str]) -> Launch:
    index = environment.get("ECG_PROCESS", environment.get("JOB_COMPLETION_INDEX"))
    processes = _whole_number("ECG_PROCESSES", environment.get("ECG_PROCESSES"))
    process = _whole_number("ECG_PROCESS", index)
    if process >= processes:
        raise ValueError(f"ECG_PROCESS = {process} of ECG_PROCESSES = {processes}: they are numbered from 0")
    host, _, port = environment["ECG_COORDINATOR"].rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"ECG_COORDINATOR is {environment['ECG_COORDINATOR']!r}: it must be host:port")
    return Launch(Cluster.EXPLICIT, environment["ECG_COORDINATOR"], processes, process)


def _whole_number(name: str, value: str | None) -> int:
    if value is None or not value.isdigit():
        raise ValueError(f"ECG_COORDINATOR is set, and {name} is {value!r}: it must be a whole number")
    return int(value)


def start(launch: Launch) -> None:
    """Joins the other processes; to be called before the first array is made.

    Raises ProcessesError, within a minute, when the coordinator cannot be reached or not all processes come, and
    ValueError for an explicit launch that does not tell all three of coordinator, processes and process.
    """
    join = functools.partial(
        jax.distributed.initialize,
        heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
        initialization_timeout=ARRIVAL_SECONDS,
    )
    match launch.cluster:
        case Cluster.SINGLE:
            return
        case Cluster.EXPLICIT:
            if launch.coordinator is None or launch.processes is None or launch.process is None:
                raise ValueError(f"{launch}: coordinator, processes and process are needed")
            roll_call(launch.coordinator, launch.processes, launch.process, ARRIVAL_SECONDS)
            join = functools.partial(
                join,
                coordinator_address=launch.coordinator,
                num_processes=launch.processes,
                process_id=launch.process,
                cluster_detection_method="deactivate",
            )
        case Cluster.SLURM:
            gpus = _gpus_of_task(os.environ)
            join = functools.partial(join, cluster_detection_method="slurm", local_device_ids=gpus)
        case Cluster.TPU:
            # Kubernetes names the workers in the environment, Compute Engine in the machine's metadata.
            in_kubernetes = "TPU_WORKER_HOSTNAMES" in os.environ
            join = functools.partial(join, cluster_detection_method="gketpu" if in_kubernetes else "gcetpu")
    try:
        join()
    except RuntimeError as error:
        where = launch.coordinator or f"the coordinator that {launch.cluster} names"
        raise ProcessesError(
            f"process {launch.process} could not join {launch.processes} processes at {where} within "
            f"{ARRIVAL_SECONDS} s: are all of them started, each with a number of its own? ({error})"
        ) from error
    if launch.processes is not None and jax.process_count() != launch.processes:
        raise ProcessesError(f"{launch.processes} processes were asked for, {jax.process_count()} are there")


def _gpus_of_task(environment: Mapping[str, str]) -> list[int] | None:
    """All GPUs of the node where one task owns it; JAX would take one GPU per task."""
    alone = environment.get("SLURM_STEP_TASKS_PER_NODE", "").split("(")[0] == "1"
    gpus = environment.get("SLURM_GPUS_ON_NODE", "")
    return list(range(int(gpus))) if alone and gpus.isdigit() else None


def table() -> Table:
    """The processes and their devices."""
    shown = Table("process", "devices", "kind", title=f"{jax.process_count()} processes, {jax.device_count()} devices")
    by_process: dict[int, list[jax.Device]] = {}
    for device in jax.devices():
        by_process.setdefault(device.process_index, []).append(device)
    for process, devices in sorted(by_process.items()):
        shown.add_row(str(process), str(len(devices)), devices[0].device_kind)
    return shown


def join() -> Console:
    """Joins the other processes, where the environment names some, and returns where the first one prints.

    What an entry point does before the first array is made. Raises as `launch_of` and `start` do.
    """
    launch = launch_of(os.environ)
    start(launch)
    console = Console(highlight=False, quiet=not is_primary())
    if launch.cluster is not Cluster.SINGLE:
        console.print(table())
    return console
