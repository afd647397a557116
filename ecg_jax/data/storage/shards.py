"""Records as ArrayRecord shards with TFDS metadata: read at random, opened by TFDS, no TensorFlow needed.

A folder of shards appears whole or not at all: it is written under a temporary name and renamed at the end.
"""

from __future__ import annotations

import dataclasses
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ecg_jax.data.ecg import LEADS, RecordPool, Simulated
from ecg_jax.data.exclusions import Exclusion, OnBad, raise_first
from ecg_jax.data.preprocess import COUNTS_PER_UNIT, Steps
from ecg_jax.extras import needs
from ecg_jax.files.whole_folder import whole_folder

with needs("train"):
    import tensorflow_datasets as tfds
    from array_record.python import array_record_module
    from tensorflow_datasets.proto import tf_example_pb2

SPLIT = "records"
FORMAT_VERSION = "1.0.0"
#: Groups of 1: a record is read alone. Uncompressed: 1.45 times the bytes, and a third less time to read a record.
WRITER_OPTIONS = "group_size:1,uncompressed"
#: Records decoded at a time while a folder is loaded.
_READ_BLOCK = 512


def features(samples: int) -> tfds.features.FeaturesDict:
    """The TFDS features of a record of `samples`; the signal is kept as raw bytes, 2 per value."""
    text = tfds.features.Text
    return tfds.features.FeaturesDict(
        {
            "ecg": tfds.features.Tensor(shape=(samples, len(LEADS)), dtype=np.int16, encoding="bytes"),
            "record_id": text(),
            "patient_id": np.int64,
            "fold": np.int64,
            "unit": text(),
            "source": text(),
            "labels": tfds.features.Sequence(text()),
        }
    )


def write_shards(
    folder: Path,
    pools: Iterable[RecordPool],
    *,
    fingerprint: Mapping[str, Any],
    exclusions: Sequence[Exclusion] = (),
    notes: Sequence[str] = (),
) -> None:
    """Writes one shard per pool, in their order, and the metadata that lets TFDS and `open_shards` read them.

    `pools` are made while they are written, so a set of any size takes the memory of one. `fingerprint` says what the
    records were made from (JSON values). `exclusions` is read after the last pool: making it may fill the list. `notes`
    are sentences that who uses the set must know.

    Raises FileExistsError when `folder` is there already and ValueError when there is no record, or pools differ in
    source, rate or length; then nothing is left behind.
    """
    if folder.exists():
        raise FileExistsError(f"{folder} exists; shards are never written over: remove the folder first")
    with whole_folder(folder) as building:
        first, lengths, units = _write_records(building, pools)
        names = _name_shards(building, first.source, len(lengths))
        _write_metadata(
            building,
            first,
            lengths,
            {
                "sample_rate_hz": first.sample_rate_hz,
                "counts_per_unit": COUNTS_PER_UNIT,
                "records_per_unit": units,
                "amplitude_known": {unit: unit == "mV" for unit in units},
                "shard_bytes": {name: (building / name).stat().st_size for name in names},
                "exclusions": [dataclasses.asdict(exclusion) for exclusion in exclusions],
                "notes": list(notes),
                "fingerprint": dict(fingerprint),
                **({} if first.simulated is None else {"simulated": list(first.simulated)}),
            },
        )


class ShardSource:
    """The records of a folder of shards, read from disk at random.

    `metadata` is what `write_shards` recorded. Raises FileNotFoundError when `folder` holds no shards, and ValueError
    when a shard is not as long as it was written.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        folder = Path(folder)
        if not (folder / "dataset_info.json").is_file():
            raise FileNotFoundError(f"{folder} holds no shards (no dataset_info.json): make them with write_shards")
        builder = tfds.builder_from_directory(folder)
        self.folder = folder
        self.name: str = builder.info.name
        self.metadata: dict[str, Any] = dict(builder.info.metadata)
        self.samples: int = builder.info.features["ecg"].shape[0]
        for name, size in self.metadata["shard_bytes"].items():
            path = folder / name
            found = path.stat().st_size if path.is_file() else 0
            if found != size:
                raise ValueError(f"{path}: {found} bytes, written with {size}; remove {folder} and make it again")
        self._records = builder.as_data_source(SPLIT)

    def __len__(self) -> int:
        return len(self._records)

    @property
    def simulated(self) -> Simulated | None:
        """What simulated records say of themselves; None of recordings, and of what older versions stored."""
        return Simulated(*self.metadata["simulated"]) if "simulated" in self.metadata else None

    def __getitem__(self, index: int) -> np.ndarray:
        return self.rows(np.array([index]))[0]["ecg"]

    def read(self, indices: np.ndarray) -> np.ndarray:
        """Returns the records at `indices` as int16 `(len(indices), samples, 12)`. Raises ValueError as `rows` does.

        Only the signal is decoded: a third of the time that `rows` takes, which decodes every feature.
        """
        ecg = np.empty((len(indices), self.samples, len(LEADS)), np.int16)
        if not len(indices):
            return ecg  # array_record refuses an empty list
        try:
            examples = self._records.data_source.__getitems__([int(index) for index in indices])
        except RuntimeError as error:
            raise self._damaged(error) from error
        for row, example in zip(ecg, examples, strict=True):
            (content,) = tf_example_pb2.Example.FromString(example).features.feature["ecg"].bytes_list.value
            row[:] = np.frombuffer(content, "<i2").reshape(row.shape)
        return ecg

    def rows(self, indices: np.ndarray) -> Sequence[dict[str, Any]]:
        """Returns the records at `indices` with what identifies them (see `features`); texts are bytes.

        Raises ValueError when a record's stored hash does not fit its content.
        """
        try:
            return self._records.__getitems__([int(index) for index in indices])
        except RuntimeError as error:
            raise self._damaged(error) from error

    def _damaged(self, error: RuntimeError) -> ValueError:
        return ValueError(f"{self.folder}: a shard is damaged ({error}); remove it and make it again")

    def check_fingerprint(self, expected: Mapping[str, Any]) -> None:
        """Raises ValueError, naming what differs, when the shards were made from something else than `expected`."""
        recorded = self.metadata["fingerprint"]
        differing = [
            f"{key}: {recorded.get(key, 'absent')} in the shards, {expected.get(key, 'absent')} now"
            for key in sorted(recorded.keys() | expected.keys())
            if recorded.get(key) != expected.get(key)
        ]
        if differing:
            raise ValueError(
                f"{self.folder} was made from other data or settings ({'; '.join(differing)}): remove it, or name "
                "another cache folder"
            )

    def check_preprocessing(self, steps: Steps) -> None:
        """Raises ValueError, naming what differs, when the records were made by other steps than `steps`."""
        expected = steps.parameters()
        recorded = {key: self.metadata["fingerprint"].get(key, "not recorded") for key in expected}
        differing = [
            f"{key} is {recorded[key]}, not {expected[key]}" for key in expected if recorded[key] != expected[key]
        ]
        if differing:
            raise ValueError(f"{self.folder}: {'; '.join(differing)}: build the set again with those steps")

    def check_exclusions(self, on_bad: OnBad) -> None:
        """Calls `on_bad` with each recording that was left out when the shards were made."""
        for exclusion in self.metadata["exclusions"]:
            on_bad(Exclusion(**exclusion))


def open_shards(
    folder: str | os.PathLike[str], *, fingerprint: Mapping[str, Any] | None = None, on_bad: OnBad = raise_first
) -> RecordPool:
    """Loads a folder of shards into memory.

    `fingerprint` is compared with the recorded one where given; `on_bad` is called with each recorded exclusion, so a
    set from which records were left out is not opened unawares. Raises FileNotFoundError and ValueError.
    """
    source = ShardSource(folder)
    if fingerprint is not None:
        source.check_fingerprint(fingerprint)
    source.check_exclusions(on_bad)
    ecg = np.empty((len(source), source.samples, len(LEADS)), np.int16)
    rows: list[dict[str, Any]] = []
    for start in range(0, len(source), _READ_BLOCK):
        block = source.rows(np.arange(start, min(start + _READ_BLOCK, len(source))))
        for offset, row in enumerate(block):
            ecg[start + offset] = row.pop("ecg")
        rows.extend(block)
    return RecordPool(
        source=source.name,
        sample_rate_hz=source.metadata["sample_rate_hz"],
        ecg=ecg,
        record_id=np.array([row["record_id"].decode() for row in rows], np.str_),
        patient_id=np.array([row["patient_id"] for row in rows], np.int64),
        fold=np.array([row["fold"] for row in rows], np.int64),
        unit=np.array([row["unit"].decode() for row in rows], np.str_),
        labels=tuple(tuple(label.decode() for label in row["labels"]) for row in rows),
        simulated=source.simulated,
    )


def _write_records(folder: Path, pools: Iterable[RecordPool]) -> tuple[RecordPool, list[int], dict[str, int]]:
    """Writes `00000`, `00001`, … : an empty pool (all its records excluded) makes no shard."""
    first: RecordPool | None = None
    lengths: list[int] = []
    units: Counter[str] = Counter()
    for pool in pools:
        if not len(pool):
            continue
        if first is None:
            first = pool.take(np.arange(1))
        for name, value, expected in (
            ("source", pool.source, first.source),
            ("sample_rate_hz", pool.sample_rate_hz, first.sample_rate_hz),
            ("samples", pool.ecg.shape[1], first.ecg.shape[1]),
            ("simulated", pool.simulated, first.simulated),
        ):
            if value != expected:
                raise ValueError(f"{folder.name}: pool {len(lengths)} has {name} {value}, the first one {expected}")
        _write_shard(folder / f"{len(lengths):05d}", pool)
        lengths.append(len(pool))
        units.update(pool.unit.tolist())
    if first is None:
        raise ValueError(f"{folder.name}: no records to write")
    if not re.fullmatch(r"\w+", first.source):
        raise ValueError(f"{folder.name}: source {first.source!r} is no name for TFDS: letters, digits and _ only")
    return first, lengths, dict(sorted(units.items()))


def _write_shard(path: Path, pool: RecordPool) -> None:
    encoder = features(pool.ecg.shape[1])
    writer = array_record_module.ArrayRecordWriter(str(path), WRITER_OPTIONS)
    try:
        for i in range(len(pool)):
            row = {
                "ecg": pool.ecg[i],
                "record_id": str(pool.record_id[i]),
                "patient_id": int(pool.patient_id[i]),
                "fold": int(pool.fold[i]),
                "unit": str(pool.unit[i]),
                "source": pool.source,
                "labels": list(pool.labels[i]),
            }
            writer.write(encoder.serialize_example(row))
    finally:
        writer.close()


def _name_shards(folder: Path, source: str, count: int) -> list[str]:
    """Gives the shards the names TFDS looks for; these hold the number of shards, known only now."""
    names = [f"{source}-{SPLIT}.array_record-{shard:05d}-of-{count:05d}" for shard in range(count)]
    for shard, name in enumerate(names):
        os.replace(folder / f"{shard:05d}", folder / name)
    return names


def _write_metadata(folder: Path, first: RecordPool, lengths: list[int], metadata: dict[str, Any]) -> None:
    template = tfds.core.ShardedFileTemplate(
        data_dir=folder, dataset_name=first.source, split=SPLIT, filetype_suffix="array_record"
    )
    split = tfds.core.SplitInfo(
        name=SPLIT,
        shard_lengths=lengths,
        num_bytes=sum(metadata["shard_bytes"].values()),
        filename_template=template,
    )
    tfds.folder_dataset.write_metadata(
        data_dir=folder,
        features=features(first.ecg.shape[1]),
        split_infos=[split],
        version=FORMAT_VERSION,
        check_data=False,  # it would read the shards again, through TensorFlow
        description=f"12-lead ECG, {first.sample_rate_hz} Hz, int16 before normalisation; leads {' '.join(LEADS)}",
        metadata=tfds.core.MetadataDict(metadata),
    )
