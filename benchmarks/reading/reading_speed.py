"""What `benchmarks.reading` times: reading at random, building, and memory at a million records."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import wfdb

from benchmarks.harness import machine
from benchmarks.harness.writing import write_csv, write_json
from ecg_jax.data.ecg import RecordPool
from ecg_jax.data.real.datasets import any_folder, mimic, prepare, ptbxl
from ecg_jax.data.real.datasets.catalogue import Output
from ecg_jax.data.storage import shards
from ecg_jax.data.storage.pool_file import save_pool
from ecg_jax.files.whole_file import read_json
from ecg_jax.train.read_ahead import read_ahead

BATCH = 64
RATES_HZ = (100, 500)
#: Records per turn: the peer takes milliseconds each, we microseconds.
OURS, PEERS = 6400, 192
#: Names of one shard, linked: a set of a million records on the disk space of one shard.
MILLION, SHARD = 1_000_000, 8_000
#: Rows of MIMIC-IV-ECG's tables.
MIMIC_RECORDS = 800_035
TABLES = ("speed", "building", "memory", "memory_building", "listing", "mapped")
#: Recordings in a folder to be built: two slices, and twenty.
BUILT = (2_000, 20_000)

Turn = Callable[[], tuple[float, float, int]]  # wall seconds, processor seconds, records


def run(data: Path, out: Path, worker: subprocess.Popen | None, rounds: int) -> None:
    """Times everything and writes a CSV file for each of `TABLES`, and notes.json."""
    versions = worker.stdout.readline().split() if worker else []
    with tempfile.TemporaryDirectory() as scratch:
        folders = {rate: Path(scratch) / str(rate) for rate in RATES_HZ}
        for rate, folder in folders.items():
            shards.write_shards(folder, [ptbxl.read_ptbxl(data, sample_rate_hz=rate)], fingerprint={})
        turns = {(name, rate): turn for rate in RATES_HZ for name, turn in _turns(folders[rate], rate, worker).items()}
        seconds = _interleaved(turns, rounds)
        write_csv(_speed(seconds), out / "speed.csv")
        write_csv(_building(data, Path(scratch), rounds), out / "building.csv")
        write_csv(_memory(folders[100], Path(scratch)), out / "memory.csv")
        write_csv(_memory_to_build(data, Path(scratch)), out / "memory_building.csv")
        write_csv(_listing(Path(scratch)), out / "listing.csv")
        write_csv(_mapped(Path(scratch)), out / "mapped.csv")
    notes = {
        "peer": f"torch {versions[0]}, wfdb {versions[1]}" if versions else "left out: no --torch-python",
        "rounds": rounds,
        "batch_records": BATCH,
        **machine.describe(),
    }
    write_json(notes, out / "notes.json")
    for name in TABLES:
        print(f"{name}\n{pd.read_csv(out / f'{name}.csv').to_string(index=False)}\n")


def _turns(folder: Path, rate_hz: int, worker: subprocess.Popen | None) -> dict[str, Turn]:
    source = shards.ShardSource(folder)
    pool = np.concatenate([source.read(np.arange(len(source)))] * 4)  # beyond the caches at both rates
    batch = np.empty((BATCH, *pool.shape[1:]), np.int16)
    rng = np.random.default_rng(0)

    def indices(step: int) -> np.ndarray:
        return np.random.default_rng(step).integers(0, len(source), BATCH)

    def through_grain() -> int:
        return sum(len(ecg) for ecg in read_ahead(lambda step: source.read(indices(step)), range(OURS // BATCH)))

    def every_feature() -> int:
        return sum(len(source.rows(indices(step))) for step in range(OURS // BATCH // 4))

    def copies() -> int:
        for _ in range(OURS // BATCH):
            np.take(pool, rng.integers(0, len(pool), BATCH), axis=0, out=batch)
        return OURS

    def peer() -> tuple[float, float, int]:
        worker.stdin.write(f"{rate_hz} {PEERS}\n")
        worker.stdin.flush()
        wall_s, processor_s, records = worker.stdout.readline().split()
        return float(wall_s), float(processor_s), int(records)

    turns: dict[str, Turn] = {
        "ours: Grain, ArrayRecord": lambda: _timed(through_grain),
        "TFDS, every feature decoded": lambda: _timed(every_feature),
        "limit: memory copy": lambda: _timed(copies),
    }
    if worker is not None:
        turns["wfdb.rdrecord, torch DataLoader"] = peer
    return turns


def _timed(run: Callable[[], int]) -> tuple[float, float, int]:
    wall, processor = time.perf_counter(), time.process_time()
    records = run()
    return time.perf_counter() - wall, time.process_time() - processor, records


def _interleaved(turns: dict[tuple[str, int], Turn], rounds: int) -> pd.DataFrame:
    """Everybody once a round, every second round backwards, after a first turn that does not count."""
    rows = []
    for number in range(-1, rounds):
        for name, rate in list(turns) if number % 2 else reversed(list(turns)):
            wall_s, processor_s, records = turns[name, rate]()
            rows.append((number, name, rate, wall_s / records, processor_s / records))
    table = pd.DataFrame(rows, columns=["round", "reader", "rate_hz", "wall_s", "processor_s"])
    return table[table["round"] >= 0]


def _speed(seconds: pd.DataFrame) -> pd.DataFrame:
    """Records per second of processor time, and the peer's seconds over a reader's within each round."""
    rows = []
    for (rate, reader), mine in seconds.groupby(["rate_hz", "reader"], sort=False):
        peers = seconds[(seconds.reader.str.startswith("wfdb")) & (seconds.rate_hz == rate)].set_index("round")
        ratio = (peers.processor_s / mine.set_index("round").processor_s).dropna()
        spread = {"median": ratio.median(), "least": ratio.min(), "greatest": ratio.max()} if len(ratio) else {}
        rows.append(
            {
                "rate_hz": rate,
                "reader": reader,
                "records_per_s_of_a_core": 1 / mine.processor_s.median(),
                "microseconds": 1e6 * mine.processor_s.median(),
                "wall_records_per_s": 1 / mine.wall_s.median(),
                **{f"times_the_peer_{name}": value for name, value in spread.items()},
            }
        )
    return pd.DataFrame(rows).sort_values(["rate_hz", "microseconds"])


def _building(data: Path, scratch: Path, rounds: int) -> pd.DataFrame:
    """Building PTB-XL at 100 Hz, and reading the same files as any folder's, against reading alone, in processor
    seconds, in turn."""
    folder = data / "ptbxl"
    recordings = ptbxl.list_raw(folder)
    unknown = any_folder.list_folder("any", folder / "records500", Output())

    def read() -> int:
        return sum(wfdb.rdrecord(str(recording.signal)).p_signal.shape[0] > 0 for recording in recordings)

    def build(number: int) -> int:
        return len(prepare.prepare_ptbxl(folder, scratch / f"built-{number}"))

    def read_any() -> int:
        return len(unknown.read(unknown.recordings, on_bad=lambda _: None))

    build(-1)  # the chain's matrix is made once
    turns = [
        (_timed(read), _timed(lambda number=number: build(number)), _timed(read_any))
        for number in range(min(rounds, 3))
    ]
    reading, building, of_any = (np.array([turn[i][1] / turn[i][2] for turn in turns]) for i in range(3))
    rows = [
        {
            "what": what,
            "records": len(recordings),
            "reading_ms": 1e3 * np.median(reading),
            "building_ms": 1e3 * np.median(ours),
            "building_over_reading": np.median(ours / reading),
            "least": (ours / reading).min(),
            "greatest": (ours / reading).max(),
        }
        for what, ours in (("PTB-XL, built", building), ("any folder, read and filtered", of_any))
    ]
    return pd.DataFrame(rows)


#: A process of its own: opens the shards, reads 20,000 records at random, says its resident memory before and after.
_READER = """
import re, sys
from pathlib import Path
import numpy as np
from ecg_jax.data.storage.shards import ShardSource
def peak():  # of this program alone: getrusage counts what its parent held
    return re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]
source = ShardSource(Path(sys.argv[1]))
source.read(np.arange(64))
opened = peak()
rng = np.random.default_rng(0)
for _ in range(20_000 // 64):
    source.read(rng.integers(0, len(source), 64))
print(len(source), opened, peak())
"""


def _memory(folder: Path, scratch: Path) -> pd.DataFrame:
    """Peak memory of a process that reads 20,000 records at random, from one shard and from a million names of it."""
    sample = shards.open_shards(folder)
    one = scratch / "one"
    shards.write_shards(one, [sample.take(np.arange(SHARD) % len(sample))], fingerprint={})
    rows = []
    for where in (one, _linked(one, scratch / "million", MILLION // SHARD)):
        command = [sys.executable, "-W", "ignore", "-c", _READER, str(where)]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        records, opened, peak = map(int, answer.stdout.split())
        rows.append({"records": records, "opened_mb": opened / 1024, "peak_mb": peak / 1024})
    return pd.DataFrame(rows)


def _memory_to_build(data: Path, scratch: Path) -> pd.DataFrame:
    """The largest process of `data.real.build` over folders of few and many recordings: the sample, many times."""
    sample = sorted((data / "ptbxl" / "records500").rglob("*_hr.hea"))
    rows = []
    for records in BUILT:
        folder = scratch / f"many-{records}"
        for number in range(records):
            header = sample[number % len(sample)]
            copy = folder / f"{number // len(sample):05d}"
            copy.mkdir(parents=True, exist_ok=True)
            for path in (header, header.with_suffix(".dat")):
                shutil.copy(path, copy / path.name)
        target, started = scratch / f"built-many-{records}", time.perf_counter()
        command = ["-m", "ecg_jax.data.real.build", "many", "--source", str(folder), "--data-dir", str(target)]
        peak_mb = _peak_mb([*command, "--workers", "2"])
        seconds = time.perf_counter() - started
        kept = len(shards.ShardSource(target / "many-100hz"))
        rows.append({"recordings": records, "records": kept, "largest_process_mb": peak_mb, "wall_s": seconds})
        shutil.rmtree(folder)
        shutil.rmtree(target)
    return pd.DataFrame(rows)


def _listing(scratch: Path) -> pd.DataFrame:
    """What listing MIMIC-IV-ECG takes: tables of its length and words, no recording there."""
    folder = scratch / "mimic"
    folder.mkdir()
    said = ("Sinus rhythm", "Left axis deviation", "Borderline ECG", "Normal ECG", "Abnormal ECG")
    with (folder / "record_list.csv").open("w") as records, (folder / "machine_measurements.csv").open("w") as reports:
        records.write("subject_id,study_id,file_name,ecg_time,path\n")
        reports.write(",".join(("subject_id", "study_id", "cart_id", *mimic.REPORT_COLUMNS)) + "\n")
        for k in range(MIMIC_RECORDS):
            patient, study = 10_000_000 + k // 5, 40_000_000 + k
            path = f"files/p{patient // 10_000}/p{patient}/s{study}/{study}"
            records.write(f"{patient},{study},{study},2180-07-23 08:44:00,{path}\n")
            reports.write(f"{patient},{study},1,{said[k % 5]},{said[k % 3]}{',' * 16}\n")
    code = "from ecg_jax.data.real.datasets import mimic, catalogue; from pathlib import Path; import sys;"
    code += "mimic.list_mimic('mimic', Path(sys.argv[1]), catalogue.Output())"
    rows = []
    nothing = "from ecg_jax.data.real.datasets import mimic"
    for records, arguments in ((0, ["-c", nothing]), (MIMIC_RECORDS, ["-c", code])):
        started = time.perf_counter()
        peak_mb = _peak_mb([*arguments, str(folder)])
        rows.append({"rows": records, "wall_s": time.perf_counter() - started, "peak_mb": peak_mb})
    return pd.DataFrame(rows)


def _mapped(scratch: Path) -> pd.DataFrame:
    """Memory of its own that a process holds after loading a packed pool and reading 6,400 records of it at random."""
    rng = np.random.default_rng(0)
    rows = []
    for records in (1_000, 40_000):
        pool = RecordPool(
            source="noise",
            sample_rate_hz=100,
            ecg=np.resize(rng.integers(-500, 500, (1_000, 1000, 12), np.int16), (records, 1000, 12)),
            record_id=np.arange(records).astype(np.str_),
            patient_id=np.arange(records),
            fold=np.ones(records, np.int64),
            unit=np.full(records, "mV"),
            labels=((),) * records,
        )
        save_pool(scratch / "pool.npz", pool)
        answer = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", _MAPPED, str(scratch / "pool.npz")],
            capture_output=True,
            text=True,
            check=True,
        )
        rows.append({"records": records, "pool_mb": pool.ecg.nbytes / 2**20, "own_mb": int(answer.stdout) / 1024})
    return pd.DataFrame(rows)


_MAPPED = """
import re, sys
from pathlib import Path
import numpy as np
from ecg_jax.data.storage.pool_file import load_pool
pool = load_pool(Path(sys.argv[1]))
rng = np.random.default_rng(0)
for _ in range(100):
    pool.read(rng.integers(0, len(pool), 64))
print(re.search(r"RssAnon:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])
"""


def _peak_mb(arguments: Sequence[str]) -> float:
    """Peak resident megabytes of the largest process of a Python program."""
    command = [sys.executable, "-W", "ignore", "-c", _LARGEST, *arguments]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(answer.stdout.split()[-1]) / 1024


#: Runs a program as a process of its own, and says the peak resident kilobytes of the largest process under it.
_LARGEST = """
import resource, subprocess, sys
subprocess.run([sys.executable, "-W", "ignore", *sys.argv[1:]], check=True, stdout=sys.stderr)
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""


def _linked(one: Path, folder: Path, count: int) -> Path:
    """A set of `count` shards that are all links to the shard in `one`."""
    folder.mkdir()
    (shard,) = one.glob("*.array_record*")
    names = [f"{shard.name.partition('-00000-of-')[0]}-{i:05d}-of-{count:05d}" for i in range(count)]
    for name in names:
        os.link(shard, folder / name)
    info, metadata = (read_json(one / name) for name in ("dataset_info.json", "metadata.json"))
    info["splits"][0] |= {"shardLengths": info["splits"][0]["shardLengths"] * count}
    metadata["shard_bytes"] = dict.fromkeys(names, shard.stat().st_size)
    shutil.copy(one / "features.json", folder)
    for name, tree in (("dataset_info.json", info), ("metadata.json", metadata)):
        (folder / name).write_text(json.dumps(tree), encoding="utf-8")
    return folder
