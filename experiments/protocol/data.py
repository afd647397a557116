"""The data of a study: real training records, the frozen held-out ones, and the stand-in where there are none."""

from __future__ import annotations

import dataclasses
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from rich.console import Console

from ecg_jax.codec import fingerprint
from ecg_jax.data.ecg import HELD_OUT_FOLDS, SIMULATED, RecordPool, join
from ecg_jax.data.exclusions import Exclusion
from ecg_jax.data.real import data_dir_from_environment
from ecg_jax.data.real.fetch.download import download
from ecg_jax.data.real.fetch.publishers import PUBLICATIONS
from ecg_jax.data.real.fetch.resumable import read_small
from ecg_jax.data.real.quality.leakage import without_evaluation
from ecg_jax.data.synthetic import fingerprint as synthetic_fingerprint
from ecg_jax.data.synthetic.standin import CLINIC_RECIPE, NOISE, SOURCE, standin_pool
from ecg_jax.evaluate.frozen import RESPONSE as FROZEN
from ecg_jax.evaluate.heldout import HeldOut, differing, freeze
from ecg_jax.evaluate.response import check_apart
from ecg_jax.files.whole_file import read_json, write_json
from ecg_jax.terminal.stage import Stage
from ecg_jax.train.training_data import check_trained_on

TRAIN_FOLDS = (1, 2, 3, 4, 5, 6, 7, 8)
VALIDATION_FOLD, SEALED_FOLD = HELD_OUT_FOLDS
PATCH_MS = 200
STANDIN_NOTE = "stand-in, not real"

HOW_TO_GET_PTBXL = (
    "ECG_DATA_DIR is not set: running on a stand-in target, not on real ECG. To run on real ECG, fetch PTB-XL "
    "(https://physionet.org/content/ptb-xl/1.0.3, 1.7 GB, open access) and set ECG_DATA_DIR to its folder."
)

#: Seconds after which a publisher that does not answer counts as out of reach.
REACH_S = 4.0


@dataclasses.dataclass(frozen=True)
class StudyData:
    """Records of the training folds, and the frozen records of the validation fold.

    `identity` tells training records apart by id and by what they were made from; `frozen` says whether held-out
    records and masks are those the pilot froze.

    Raises ValueError for training records that are no recordings, or that are held out, by fold, patient or signal.
    """

    training: RecordPool
    heldout: HeldOut
    identity: str
    frozen: bool
    excluded: tuple[Exclusion, ...]

    def __post_init__(self) -> None:
        check_trained_on(self.training)
        check_apart(self.training, self.heldout)

    @property
    def note(self) -> str:
        """Empty for real recordings; otherwise it stands in every table, figure and title."""
        return STANDIN_NOTE if self.training.source == SOURCE else ""

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
    from ecg_jax.data.exclusions import raise_first
    from ecg_jax.data.real.datasets import ptbxl
    from ecg_jax.data.real.datasets.prepare import prepare_ptbxl

    excluded: list[Exclusion] = []
    on_bad = excluded.append if leave_out_flawed else raise_first
    pool = prepare_ptbxl(data_dir, cache_dir, on_bad=on_bad, progress=progress)
    validation, frozen = pool.in_folds((VALIDATION_FOLD,)), read_json(FROZEN)
    among = np.flatnonzero(np.isin(validation.record_id, frozen["record_ids"]))
    if len(among) == len(frozen["record_ids"]):  # a larger PTB-XL: its other records of fold 9 are not held out here
        validation = validation.take(among)
    origin: object = ptbxl.fingerprint(data_dir, pool.sample_rate_hz)
    others = []
    for folder in more:
        other, made_from = _further(folder)
        others.append(other)
        origin = [origin, made_from]
    if weights is not None:
        origin = [origin, list(map(str, weights))]
    data = split(
        pool,
        validation,
        origin=origin,
        excluded=tuple(excluded),
        others=others,
        weights=weights,
        named=frozen["record_ids"],
    )
    return dataclasses.replace(data, frozen=is_frozen(data.heldout))


def is_frozen(heldout: HeldOut) -> bool:
    """Whether held-out records and masks are those that the pilot froze.

    Raises ValueError where their names are and their signals are not. A file of before signals were kept says nothing
    of them, and is believed.
    """
    frozen = read_json(FROZEN)
    if heldout.identity != frozen["response"]:
        return False
    if "sketches" in frozen and (other := differing(heldout.pool, frozen["sketches"])):
        raise ValueError(
            f"{len(other)} of {len(heldout.pool)} held-out records, such as {other[0]}, are not the recordings that "
            f"were frozen under these names ({FROZEN}): the files hold other signals; fetch them again"
        )
    return True


def _further(folder: Path) -> tuple[RecordPool, Mapping[str, object]]:
    """A set to train on beside PTB-XL: its records, and what they were made from."""
    from ecg_jax.data.preprocess import STANDARD
    from ecg_jax.data.storage.shards import ShardSource, open_shards

    source = ShardSource(folder)
    if source.name.endswith(SIMULATED) or source.simulated is not None:
        raise ValueError(f"{folder} holds {source.name}: simulated ECG is no real set")
    source.check_preprocessing(STANDARD)
    return open_shards(folder, on_bad=lambda _: None), source.metadata["fingerprint"]


def load_standin(patients: int) -> StudyData:
    """The stand-in target: made by our own generator from another population with other noise."""
    pool = standin_pool(patients)
    origin = {"population": synthetic_fingerprint(CLINIC_RECIPE), "noise": dataclasses.asdict(NOISE)}
    return split(pool, pool.in_folds((VALIDATION_FOLD,)), origin=origin)


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
        with Stage(f"making {standin_patients:,} patients of the stand-in", console):
            return load_standin(standin_patients)
    with Stage(f"reading PTB-XL from {folder}", console, "records") as advance:
        data = load_real(folder, cache_dir, leave_out_flawed=True, progress=advance, more=more, weights=weights)
    tell_left_out(data, console)
    return data


def tell_left_out(data: StudyData, console: Console) -> None:
    """Prints every recording that is left out, with its reason, and how many there are."""
    for item in data.excluded:
        console.print(f"left out {item.record_id}: {item.reason}", soft_wrap=True)
    if data.excluded:
        console.print(f"{len(data.excluded)} recordings are left out; {len(data.training)} are trained on")


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
    named: Sequence[str] = (),
) -> StudyData:
    """The training folds of `pool`, and `validation` under frozen masks; `origin` says what the records were made from.

    `others` are sets that are trained on whole, beside it, and `weights` the shares of all in the real stream. Left out
    of both, and told in `excluded`: recordings that the held-out folds or `validation` hold as well, by signal; of
    `pool` other recordings of their patients too, and records that are `named`.

    Raises ValueError when either is empty, or training would see a fold that is held out or sealed.
    """
    leaked = sorted({VALIDATION_FOLD, SEALED_FOLD} & set(TRAIN_FOLDS))
    if leaked or SEALED_FOLD in validation.fold:
        raise ValueError(
            f"{pool.source}: folds {leaked} are among the training folds {TRAIN_FOLDS}, or fold {SEALED_FOLD} is held "
            f"out: fold {VALIDATION_FOLD} is for validation, fold {SEALED_FOLD} is sealed"
        )
    folds = pool.take(np.flatnonzero(np.isin(pool.fold, HELD_OUT_FOLDS) | np.isin(pool.record_id, named)))
    beside = validation.take(np.flatnonzero(~np.isin(validation.record_id, folds.record_id)))
    training, left_out, kept = pool.in_folds(TRAIN_FOLDS), (), list(others)
    for evaluation in filter(len, (folds, beside)):
        training, repeated = _apart(training, evaluation)
        left_out += repeated
        for k, other in enumerate(kept):
            kept[k], repeated = without_evaluation(other, evaluation)
            left_out += repeated
    for name, part in (("training", training), ("validation", validation)):
        if not len(part):
            raise ValueError(f"{pool.source}: no record in the {name} folds; the folds are {sorted(set(pool.fold))}")
    training = join([training, *kept], weights)
    identity = fingerprint([origin, training.record_id.tolist(), training.patient_id.tolist()])
    heldout = freeze(validation, 1000 * validation.ecg.shape[1] // pool.sample_rate_hz // PATCH_MS)
    return StudyData(training, heldout, identity, frozen=False, excluded=excluded + left_out)


def _apart(training: RecordPool, evaluation: RecordPool) -> tuple[RecordPool, tuple[Exclusion, ...]]:
    """`training` less what `evaluation` holds, by name, patient or signal, and each that is left out for it."""
    shared = np.flatnonzero(np.isin(training.patient_id, evaluation.patient_id))
    if not len(shared):
        return without_evaluation(training, evaluation)
    left_out = tuple(
        Exclusion(str(record), f"held-out patient {patient}, of whom the evaluation holds recordings")
        for record, patient in zip(training.record_id[shared], training.patient_id[shared], strict=True)
    )
    training = training.take(np.setdiff1d(np.arange(len(training)), shared))
    training, repeated = without_evaluation(training, evaluation)
    return training, left_out + repeated
