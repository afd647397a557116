"""Runs a study on a SLURM cluster: an array of tasks that share its packs, each saved and queued again when told to go.

    python -m experiments.launch.slurm --tasks 8 --time 8:00:00 --sbatch="--partition=gpu --gpus-per-node=1" -- \\
        -m experiments.mixed_vs_pure --preset gpu --data-files /shared/data --out /shared/out --no-wait

Tasks take packs that no other one owns, so any number of them may be added or lost. `OUT` must be a folder that all
nodes see. With `--nodes N` a task is one training process on each of N nodes. `--dry-run` shows the script.
"""

from __future__ import annotations

import argparse
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ecg_jax.terminal.command import command

#: Seconds before its time limit at which a task is told to save.
NOTICE_SECONDS = 120

_BREAK = r"[\r\n\0]+"
#: A word of sbatch's options: quoted, escaped and plain parts.
_WORD = re.compile(r"""(?:[^\s"'\\]|\\.|"(?:\\.|[^"\\])*"|'[^']*')+""")

SCRIPT = """\
#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --array=0-{last}
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node=1
#SBATCH --time={time}
#SBATCH --requeue
#SBATCH --signal=B:USR1@{notice}
#SBATCH --open-mode=append
#SBATCH --output={logs}/%A_%a.log
{more}
cd {folder}

# Told to go, the study saves what it has and ends. At the time limit (USR1), or for another job (TERM), the task is
# queued again to go on with it; cancelled (TERM), it is not.
task="${{SLURM_ARRAY_JOB_ID}}_${{SLURM_ARRAY_TASK_ID}}"  # the job's own number may be that of the whole array
leave() {{
    echo "$(date): told to go: saving"
    kill -TERM "$study" 2>/dev/null
    wait "$study"
    if [ "$1" = limit ] || scontrol show job "$task" | grep -q 'PreemptTime=[0-9]'; then
        scontrol requeue "$task" && echo "$(date): queued again"
    fi
    exit 0
}}
trap 'leave limit' USR1
trap 'leave asked' TERM

{command} &
study=$!
wait "$study"
exit $?
"""


def check(options: argparse.Namespace) -> None:
    """Raises ValueError for text with a line break: what follows it would be no option any more, but a command."""
    for name in ("name", "time", "sbatch", "logs"):
        if re.search(_BREAK, text := str(getattr(options, name))):
            raise ValueError(f"--{name} {text!r} has a line break: it must be one line")


def script(options: argparse.Namespace) -> str:
    """The batch script, each option on a line of its own whatever is in it. Raises ValueError for numbers that make no
    array, and as `sbatch_options` does."""
    if options.tasks < 1 or options.nodes < 1:
        raise ValueError(f"--tasks {options.tasks} --nodes {options.nodes}: at least one of each is needed")
    python = [options.python, *options.command]
    # Signals go to srun, which hands them on to every process of the task.
    command = python if options.nodes == 1 else ["srun", "--kill-on-bad-exit=1", *python]
    return SCRIPT.format(
        name=_quoted(options.name),
        last=options.tasks - 1,
        nodes=options.nodes,
        time=_quoted(options.time),
        notice=NOTICE_SECONDS,
        logs=_quoted(str(options.logs)),
        more="".join(f"#SBATCH {option}\n" for option in sbatch_options(options.sbatch)),
        folder=shlex.quote(str(Path.cwd())),
        command=shlex.join(command),
    )


def _quoted(text: str) -> str:
    return shlex.quote(re.sub(_BREAK, " ", text))


def sbatch_options(text: str) -> list[str]:
    """The options of a line, each with its value, written as they were given: sbatch itself reads quotes. Raises
    ValueError for a quote that is not closed, and a value without its option."""
    words = re.findall(rf"{_WORD.pattern}|\S", re.sub(_BREAK, " ", text))
    if broken := [word for word in words if not _WORD.fullmatch(word)]:
        raise ValueError(f"--sbatch {text!r}: the quote {broken[0]} is not closed")
    found: list[str] = []
    for word in words:
        if re.match(r"-(?!\d)", word):  # a negative number is a value
            found.append(word)
        elif found:
            found[-1] += f" {word}"
        else:
            raise ValueError(f"--sbatch {text!r}: {word} is no option; sbatch's begin with -")
    return found


def submit(text: str, logs: Path) -> str:
    """Hands the script to sbatch and returns what it says. Raises FileNotFoundError where there is no SLURM, and
    RuntimeError where it refuses."""
    if shutil.which("sbatch") is None:
        raise FileNotFoundError("sbatch is not on the PATH: run this on a login node of the cluster, or see --dry-run")
    logs.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(["sbatch"], input=text, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"sbatch refused it: {done.stderr.strip()}")
    return done.stdout.strip()


def check_task(task: str, trunks: int) -> None:
    """Raises ValueError for a task of an array that can never have anything to train: one past the study's trunks."""
    if not task.isdigit() or int(task) >= max(1, trunks):
        raise ValueError(
            f"SLURM_ARRAY_TASK_ID is {task}: the study has {trunks} trunks to train, so at most tasks 0 to "
            f"{max(0, trunks - 1)} find work; submit it with --tasks {max(1, trunks)} or fewer"
        )


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m experiments.launch.slurm",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--tasks", type=int, default=1, metavar="N", help="tasks of the array (default %(default)s)")
    p.add_argument("--nodes", type=int, default=1, metavar="N", help="nodes of each task (default %(default)s)")
    p.add_argument("--time", default="1:00:00", help="limit of a task (default %(default)s), then queued again")
    p.add_argument("--name", default="ecg", help="name of the job (default %(default)s)")
    p.add_argument("--logs", type=Path, default=Path("out/slurm"), help="folder of the logs (default %(default)s)")
    p.add_argument("--python", default=sys.executable, help="the interpreter on the nodes (default: this one)")
    p.add_argument("--sbatch", default="", metavar="OPTIONS", help='more for sbatch, as given: "--partition=gpu"')
    p.add_argument("--dry-run", action="store_true", help="print the script and submit nothing")
    p.add_argument("command", nargs="+", help="what Python is to run, after --")
    return p


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """The command line's entry."""
    options = parser().parse_args(arguments)
    check(options)
    text = script(options)
    print(text if options.dry_run else submit(text, options.logs))


if __name__ == "__main__":
    raise SystemExit(main())
