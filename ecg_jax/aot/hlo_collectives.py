"""What a compiled program sends between devices, read off its text.

The compilers give no count of it: XLA's cost analysis knows nothing of links. Read off the optimised HLO of TPU or CPU:
a collective is counted once however many pieces it was cut into to overlap with arithmetic, and as often as the loops
around it run, those over layers and those that pass a matrix around a ring.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

_BYTES = {"pred": 1, "s8": 1, "u8": 1, "bf16": 2, "f16": 2, "s16": 2, "u16": 2, "f64": 8, "s64": 8, "u64": 8}
_KINDS = "all-gather|all-reduce|reduce-scatter|all-to-all|collective-permute"
_OPERATION = re.compile(rf"^\s*(?:ROOT )?%?\S+ = (\(.*?\)|\S+) ({_KINDS})(-start)?\(")
_ARRAY = re.compile(r"(pred|bf16|[suf]\d+)\[([\d,]*)\]")
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_LOOP = re.compile(r"condition=%?([\w.\-]+), body=%?([\w.\-]+)")
_CALL = re.compile(r"(?:calls|to_apply)=%?([\w.\-]+)")
#: TPUs fuse a reduction and the slice of it that a device keeps into a computation of this name.
_FUSED = "all-reduce-scatter"


def received_bytes(hlo: str) -> dict[str, float]:
    """Bytes that each device receives per execution of a compiled program, by kind of collective.

    `hlo` is `compiled.as_text()`. Rings move the least that is possible, and are what is counted: of n devices' data a
    gather or scatter moves (n - 1) / n, a reduction to all twice that. Raises ValueError for a collective whose devices
    are not stated, and for a loop of which the text does not tell how often it runs.
    """
    computations, entry = _computations(hlo)
    turns: dict[str, int] = {}
    _count(entry, 1, computations, turns)
    found: dict[tuple[str, str], float] = {}
    for computation, times in turns.items():
        for line in computations[computation]:
            if not (operation := _OPERATION.match(line)):
                continue
            shape, kind, started = operation.groups()
            is_fused = computation.startswith(_FUSED)
            moved = times * _moved(_FUSED if is_fused else kind, _size(shape), line, bool(started))
            channel = re.search(r"channel_id=(\d+)", line)
            # Fused reductions share a channel, the pieces of one collective have the same.
            key = computation if is_fused or not channel else channel[1]
            kind = "reduce-scatter" if is_fused else kind
            found[kind, key] = max(found.get((kind, key), 0), moved)
    kinds = sorted({kind for kind, _ in found})
    return {kind: sum(moved for (of, _), moved in found.items() if of == kind) for kind in kinds}


def least_bytes(parameters: int, weight_bytes: int, devices: int) -> float:
    """What fully sharded data parallelism must at least move to each device per step: the weights forward and again
    backward, and the gradients, less the device's own share (ZeRO-3, Rajbhandari et al. 2020)."""
    return 3 * weight_bytes * parameters * (1 - 1 / devices)


def _computations(hlo: str) -> tuple[dict[str, list[str]], str]:
    """The lines of each computation by its name, and the one that is run."""
    computations: dict[str, list[str]] = {}
    name, entry = "", ""
    for line in hlo.splitlines():
        if begins := _COMPUTATION.match(line):
            name = begins[2]
            entry = name if begins[1] else entry
            computations[name] = []
        elif name:
            computations[name].append(line)
    return computations, entry


def _count(name: str, times: int, computations: Mapping[str, Sequence[str]], turns: dict[str, int]) -> None:
    """Adds to `turns` how often a computation, and all that it calls, runs."""
    turns[name] = turns.get(name, 0) + times
    for line in computations[name]:
        if loop := _LOOP.search(line):
            _count(
                loop[2], times * _loop_turns(line, computations[loop[1]], computations[loop[2]]), computations, turns
            )
        elif (call := _CALL.search(line)) and call[1] in computations:
            _count(call[1], times, computations, turns)


def _loop_turns(line: str, condition: Sequence[str], body: Sequence[str]) -> int:
    """How often a loop runs: the compiler's own note, or the bound of its counter over what each turn adds to it."""
    if known := re.search(r'known_trip_count":\{"n":"(\d+)"', line):
        return int(known[1])
    bounds = list(_constants(condition).values())
    places = [int(place) for text in condition for place in re.findall(r"get-tuple-element\(.*?\), index=(\d+)", text)]
    if len(bounds) == len(places) == 1 and any("direction=LT" in text for text in condition):
        after = next(text for text in body if "ROOT" in text).rpartition(" tuple(")[2]
        counter = re.findall(r"%[\w.\-]+", after)[places[0]]
        for text in body:
            if (added := re.search(r"(\S+) = [su]32\[\]\S* add\((\S+), (\S+)\)", text)) and added[1] == counter:
                steps = [value for name, value in _constants(body).items() if name in added.groups()[1:]]
                if len(steps) == 1:  # a ring that is unrolled counts by two
                    return -(-bounds[0] // steps[0])
    raise ValueError(f"how often does this loop run? {line.strip()[:200]!r}")


def _constants(lines: Sequence[str]) -> dict[str, int]:
    found = (re.match(r"\s*(?:ROOT )?(%\S+) = [su]32\[\]\S* constant\((\d+)\)", line) for line in lines)
    return {one[1]: int(one[2]) for one in found if one}


def _moved(kind: str, size: int, line: str, started: bool) -> float:
    """Bytes received for a result of `size` bytes; what only starts names what goes in as well."""
    if kind == "collective-permute":
        return size / 2 if started else size
    n = _group(line)
    share = (n - 1) / n
    match kind:
        case "all-gather":
            return share * (size * n / (n + 1) if started else size)
        case "all-reduce":
            return 2 * share * size
        case "reduce-scatter":
            return share * size * n
        case _:  # all-to-all, and fused ones, whose text has the whole sum
            return share * size


def _size(shape: str) -> int:
    counts = ((kind, [int(d) for d in dims.split(",") if d]) for kind, dims in _ARRAY.findall(shape))
    return sum(_BYTES.get(kind, 4) * math.prod(dims) for kind, dims in counts)


def _group(line: str) -> int:
    """How many devices take part in a collective: its groups are listed, counted, or axes of a mesh."""
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", line):
        return len(listed[1].split(","))
    if counted := re.search(r"replica_groups=\[(\d+),(\d+)\]", line):
        return int(counted[2])
    if axes := re.search(r"replica_groups=mesh\[([^\]]*)\] ?\{([^}]*)\}", line):
        sizes = dict(re.findall(r"('\w+')=(\d+)", axes[1]))
        return math.prod(int(sizes[axis]) for axis in axes[2].split(","))
    raise ValueError(f"no devices are stated in {line.strip()[:200]!r}")
