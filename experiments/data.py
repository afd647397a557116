"""The data of a study: real training records, the frozen held-out ones, and the stand-in where there are none."""

from __future__ import annotations

import dataclasses
import os
import threading
import typing
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from rich.console import Console

from ecg_jax.codec import fingerprint
from ecg_jax.data.ecg import SIMULATED, RecordPool, join
from ecg_jax.data.real import data_dir_from_environment
from ecg_jax.data.real.download import download
from ecg_jax.data.real.publishers import PUBLICATIONS
from ecg_jax.data.real.transfer import read_small
from ecg_jax.data.standin import CLINIC_RECIPE, NOISE, standin_pool
from ecg_jax.data.synthetic import fingerprint as synthetic_fingerprint
from ecg_jax.evaluate.heldout import HeldOut, freeze
from ecg_jax.store import read_json, write_json

if typing.TYPE_CHECKING:
    from ecg_jax.data.real.recording import Exclusion

TRAIN_FOLDS = (1, 2, 3, 4, 5, 6, 7, 8)
VALIDATION_FOLD = 9
SEALED_FOLD = 10
PATCH_MS = 200
STANDIN_NOTE = "stand-in, not real"
#: The response that the pilot froze: records of fold 9, and the identity of records and masks.
FROZEN = Path(__file__).parents[1] / "results" / "pilot" / "response.json"

HOW_TO_GET_PTBXL = (
    "ECG_DATA_DIR is not set: running on a stand-in target, not on real ECG. To run on real ECG, fetch PTB-XL "
    "(https://physionet.org/content/ptb-xl/1.0.3, 1.7 GB, open access) and set ECG_DATA_DIR to its folder."
)

#: Seconds after which a publisher that does not answer counts as out of reach.
REACH_S = 4.0


@dataclasses.dataclass(frozen=True)
class StudyData:
    """Records of the training folds, and the frozen records of the validation fold.

    `identity` tells training records apart by id and by what they were made from; `note` is empty for real recordings
    and otherwise stands in every table, figure and title; `frozen` says whether held-out records and masks are those
    the pilot froze.
    """

    training: RecordPool
    heldout: HeldOut
    identity: str
    note: str
    frozen: bool
    excluded: tuple[Exclusion, ...]

    @property
    def target(self) -> str:
        """What losses are measured on, as tables and pages name it."""
        return self.note or "PTB-XL"


def load_real(
    data_dir: Path,
    cache_dir: Path,
    *,
    leave_out_flawed: bool = False,
    progress: Callable[[int, int], None] | None = None,
    more: Sequence[Path] = (),
    weights: Sequence[Fraction] | None = None,
) -> StudyData:
    """PTB-XL from `data_dir`, prepared once under `cache_dir`, and `more` sets to train on, as shards that were built;
    `weights` are their shares of the real stream, PTB-XL's first (default: by size).

    A recording of PTB-XL with NaN or a flat lead is an error, or is left out by name; of the other sets what the
    validation or sealed fold holds as well is. Raises FileNotFoundError or ValueError for a folder of another shape,
    damaged or flawed files, other preprocessing, or a broken split.
    """
    # Here, since a node that trains from packed data may have no WFDB, TFDS or ArrayRecord.
    from ecg_jax.data.real import ptbxl
    from ecg_jax.data.real.prepare import prepare_ptbxl
    from ecg_jax.data.real.recording import raise_first

    excluded: list[Exclusion] = []
    on_bad = excluded.append if leave_out_flawed else raise_first
    pool = prepare_ptbxl(data_dir, cache_dir, on_bad=on_bad, progress=progress)
    validation, frozen = pool.in_folds((VALIDATION_FOLD,)), read_json(FROZEN)
    among = np.flatnonzero(np.isin(validation.record_id, frozen["record_ids"]))
    if len(among) == len(frozen["record_ids"]):  # a larger PTB-XL: its other records of fold 9 are not held out here
        validation = validation.take(among)
    origin: object = ptbxl.fingerprint(data_dir, pool.sample_rate_hz)
    others, evaluation = [], pool.in_folds((VALIDATION_FOLD, SEALED_FOLD))
    for folder in more:
        kept, made_from, repeated = _further(folder, evaluation)
        others.append(kept)
        excluded += repeated
        origin = [origin, made_from]
    if weights is not None:
        origin = [origin, list(map(str, weights))]
    data = split(pool, validation, origin=origin, excluded=tuple(excluded), others=others, weights=weights)
    return dataclasses.replace(data, frozen=data.heldout.identity == frozen["response"])


def _further(folder: Path, evaluation: RecordPool) -> tuple[RecordPool, Mapping[str, object], tuple[Exclusion, ...]]:
    """A set to train on beside PTB-XL: its records, what they were made from, and those that `evaluation` holds too."""
    from ecg_jax.data.preprocess import STANDARD
    from ecg_jax.data.real.leakage import without_evaluation
    from ecg_jax.data.real.shards import ShardSource, open_shards

    source = ShardSource(folder)
    source.check_preprocessing(STANDARD)
    if source.name.endswith(SIMULATED):
        raise ValueError(f"{folder} holds {source.name}: simulated ECG is no real set")
    kept, repeated = without_evaluation(open_shards(folder, on_bad=lambda _: None), evaluation)
    return kept, source.metadata["fingerprint"], repeated


def load_standin(patients: int) -> StudyData:
    """The stand-in target: made by our own generator from another population with other noise."""
    pool = standin_pool(patients)
    origin = {"population": synthetic_fingerprint(CLINIC_RECIPE), "noise": dataclasses.asdict(NOISE)}
    return dataclasses.replace(split(pool, pool.in_folds((VALIDATION_FOLD,)), origin=origin), note=STANDIN_NOTE)


def load_or_standin(
    option: Path | None,
    cache_dir: Path,
    standin_patients: int,
    console: Console,
    more: Sequence[Path] = (),
    weights: Sequence[Fraction] | None = None,
) -> StudyData:
    """PTB-XL from the option or ECG_DATA_DIR, flawed recordings left out by name, or else the stand-in, saying so.

    Raises as `load_real` does, and ValueError for `more` sets where there is no PTB-XL.
    """
    folder = data_dir_or_none(option)
    if folder is None:
        if more or weights:
            raise ValueError(
                "further real sets are trained on beside PTB-XL, whose folds 9 and 10 they must not hold; "
                "name its folder (--data-dir or ECG_DATA_DIR)"
            )
        console.print(HOW_TO_GET_PTBXL, soft_wrap=True)
        return load_standin(standin_patients)
    with console.status(f"reading PTB-XL from {folder}"):
        data = load_real(folder, cache_dir, leave_out_flawed=True, more=more, weights=weights)
    for item in data.excluded:
        console.print(f"left out {item.record_id}: {item.reason}", soft_wrap=True)
    return data


def data_dir_or_none(option: Path | None) -> Path | None:
    """The folder of recordings: the option, or ECG_DATA_DIR, or None where neither is given."""
    if option is not None:
        return option
    return data_dir_from_environment() if os.environ.get("ECG_DATA_DIR") else None


def fetch_ptbxl(folder: Path, records: int, console: Console) -> Path | None:
    """The first `records` recordings of PTB-XL in `folder`, from their publisher; None, saying why, where none come.

    What an earlier call fetched whole is used without asking anybody; what it fetched in part is gone on with.
    """
    publication, receipt = PUBLICATIONS["ptbxl"], folder / "fetched.json"
    if receipt.is_file() and read_json(receipt) == {"records": records}:
        return folder
    trouble = _out_of_reach(f"{publication.addresses[0]}/LICENSE.txt")
    if not trouble:
        console.print(
            f"ECG_DATA_DIR is not set: fetching {records} records of PTB-XL (about {0.12 * records:.0f} MB) into "
            f"{folder}; --fetch 0 does without",
            soft_wrap=True,
        )
        try:
            download(publication, folder, records=records, console=console)
            write_json(receipt, {"records": records})
            return folder
        except (OSError, ValueError) as error:
            trouble = str(error)
    console.print(f"PTB-XL could not be fetched: {trouble}", soft_wrap=True)
    return None


def _out_of_reach(url: str) -> str:
    """Why `url` cannot be read within `REACH_S`, "" where it can; in a thread, as looking up a name has no time-out."""
    found = [f"no answer within {REACH_S:g} s"]

    def ask() -> None:
        try:
            read_small(url, timeout_s=REACH_S, attempts=1)
            found.append("")
        except OSError as error:
            found.append(str(error))

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(REACH_S)
    return found[-1]


def split(
    pool: RecordPool,
    validation: RecordPool,
    *,
    origin: object = None,
    excluded: tuple[Exclusion, ...] = (),
    others: Sequence[RecordPool] = (),
    weights: Sequence[Fraction] | None = None,
) -> StudyData:
    """The training folds of `pool`, and `validation` under frozen masks; `origin` says what the records were made from.

    `others` are sets that are trained on whole, beside it, and `weights` the shares of all in the real stream.

    Raises ValueError when either is empty, or training would see a fold that is held out or sealed.
    """
    training = pool.in_folds(TRAIN_FOLDS)
    for name, part in (("training", training), ("validation", validation)):
        if not len(part):
            raise ValueError(f"{pool.source}: no record in the {name} folds; the folds are {sorted(set(pool.fold))}")
    leaked = sorted({VALIDATION_FOLD, SEALED_FOLD} & {int(fold) for fold in training.fold})
    if leaked or SEALED_FOLD in validation.fold:
        raise ValueError(
            f"{pool.source}: folds {leaked} are among the training folds {TRAIN_FOLDS}, or fold {SEALED_FOLD} is held "
            f"out: fold {VALIDATION_FOLD} is for validation, fold {SEALED_FOLD} is sealed"
        )
    training = join([training, *others], weights)
    identity = fingerprint([origin, training.record_id.tolist(), training.patient_id.tolist()])
    heldout = freeze(validation, 1000 * validation.ecg.shape[1] // pool.sample_rate_hz // PATCH_MS)
    return StudyData(training, heldout, identity, note="", frozen=False, excluded=excluded)
