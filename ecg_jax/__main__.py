"""The command `ecg-jax`, also as `python -m ecg_jax`: what is done to recordings, models and studies.

Each command is a module that is loaded when it is asked for, so that help and `status` need no JAX.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import ecg_jax
from ecg_jax.terminal.command import command


class Subcommand(NamedTuple):
    """A command, what it does, and the function that does it."""

    name: str
    does: str
    module: str
    function: str = "main"


_STORE = "ecg_jax.monitor.store_commands"
GROUPS: dict[str, tuple[Subcommand, ...]] = {
    "recordings": (
        Subcommand("download", "fetch an open data set, resumed and checked", "ecg_jax.data.real.fetch.download"),
        Subcommand("build", "prepare a set, or any folder of recordings, for training", "ecg_jax.data.real.build"),
        Subcommand("report", "what is in a set, and what was left out", "ecg_jax.data.real.quality.report"),
        Subcommand("synthetic", "draw, export or store synthetic recordings", "ecg_jax.data.synthetic.__main__"),
    ),
    "models": (
        Subcommand("evaluate", "what encoders are worth on labelled recordings", "ecg_jax.evaluate.command"),
        Subcommand("ladder", "the sizes: shape, parameters, FLOPs and memory", "ecg_jax.scaling.ladder"),
        Subcommand("compile", "a train step compiled for TPUs that are not there", "ecg_jax.aot.compile"),
    ),
    "studies": (
        Subcommand("status", "what is done, running, waiting and failed, and the time left", _STORE, "status"),
        Subcommand("export", "the tables of every study, as CSV", _STORE, "export"),
        Subcommand("show", "one run's config and record", _STORE, "show"),
        Subcommand("merge", "the finished runs of one store into another", _STORE, "merge"),
        Subcommand("replay", "the logs, for TensorBoard or Weights & Biases", _STORE, "replay"),
    ),
}
EXAMPLES = """\
  ecg-jax build mine --source my_ecgs --data-dir data/built    # your own recordings, ready to train on
  ecg-jax status out/mixed_vs_pure/store --watch               # a study, while it is done
Studies are begun by modules of their own: python -m experiments.quickstart --help. Fits: scaling-fits --help."""


def describe() -> str:
    """What `ecg-jax --help` prints."""
    lines = ["usage: ecg-jax COMMAND [options]    (ecg-jax COMMAND --help tells more)", ""]
    for group, members in GROUPS.items():
        lines += [f"{group}:", *(f"  {member.name:<10} {member.does}" for member in members), ""]
    return "\n".join([*lines, "examples:", EXAMPLES])


@command
def main(arguments: Sequence[str] | None = None) -> int:
    """Does one command; returns its exit status."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    known = {member.name: member for members in GROUPS.values() for member in members}
    if words and words[0] in known:
        chosen = known[words[0]]
        return getattr(importlib.import_module(chosen.module), chosen.function)(words[1:])
    return _without_command(words, known)


def _without_command(words: Sequence[str], known: Mapping[str, Subcommand]) -> int:
    if words and words[0] in ("-h", "--help"):
        print(describe())
        return 0
    if words and words[0] == "--version":
        print(f"ecg-jax {ecg_jax.__version__}")
        return 0
    if not words:
        print(describe(), file=sys.stderr)
        return 2
    near = difflib.get_close_matches(words[0], known, 1)
    meant = f"did you mean {near[0]}?" if near else f"it is one of {', '.join(known)}"
    print(f"error: there is no command {words[0]!r}: {meant}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    raise SystemExit(main())
