"""A study's data as a few files: what a node without WFDB, TFDS and Grain trains from."""

from __future__ import annotations

from pathlib import Path

from ecg_jax.codec import fingerprint
from ecg_jax.data.ecg import RecordPool
from ecg_jax.data.storage.arrays import checksums, field
from ecg_jax.data.storage.pool_file import load_pool, save_pool
from ecg_jax.evaluate.heldout import freeze
from ecg_jax.files.whole_file import damaged, read_json, write_json
from ecg_jax.store.layout import check_folder
from experiments.protocol.data import StudyData, is_frozen

#: Two pools, and what else there is to say of them, written last.
TRAINING, HELDOUT, ABOUT = "training.npz", "heldout.npz", "about.json"


def export_data(folder: Path, data: StudyData) -> None:
    """Writes a study's records to `folder`: training folds and held-out records; the sealed fold is not among them.

    Data that were exported there before are none from the first moment on, so that no two exports are ever mixed.
    """
    check_folder(folder)
    (folder / ABOUT).unlink(missing_ok=True)
    about: dict[str, object] = {"identity": data.identity, "response": data.heldout.identity}
    about["patches"] = data.heldout.hidden.shape[2]
    for name, pool in ((TRAINING, data.training), (HELDOUT, data.heldout.pool)):
        save_pool(folder / name, pool)
        about[name] = checksums(folder / name)
    write_json(folder / ABOUT, about | {"checksum": fingerprint(about)})


def load_data_files(folder: Path) -> StudyData:
    """The data that `export_data` wrote, with the masks drawn anew; every array is compared with the checksum it had.

    Raises FileNotFoundError for a folder without them, and ValueError where its description or an array is another,
    held-out records and masks are not those that were exported, or training records are held out.
    """
    path = folder / ABOUT
    if not path.is_file():
        raise FileNotFoundError(
            f"{folder} holds no exported data: it has no {ABOUT}; write them with --export-data {folder} (or again, "
            "where exporting was broken off)"
        )
    remedy = f"export the data again with --export-data {folder}"
    about, known = read_json(path, remedy=remedy), {}
    expected = about.pop("checksum", None)
    if expected is not None and expected != fingerprint(about):
        raise damaged(path, "is not what was written: its checksum is another", remedy=remedy)
    try:
        identity, response = field(about, "identity", str), field(about, "response", str)
        patches = field(about, "patches", int, least=1)
        for name in (TRAINING, HELDOUT):
            known[name] = field(about, name, dict)
    except ValueError as error:
        raise ValueError(
            f"{path}: {error}; an older ecg-jax kept no checksums: export the data again with --export-data {folder}"
        ) from error
    heldout = freeze(_load(folder / HELDOUT, known[HELDOUT]), patches)
    if heldout.identity != response:
        raise ValueError(
            f"{folder / HELDOUT}: records and masks are {heldout.identity}, those that were exported were "
            f"{response}: export the data again with this version"
        )
    training = _load(folder / TRAINING, known[TRAINING])
    return StudyData(training, heldout, identity, frozen=is_frozen(heldout), excluded=())


def _load(path: Path, known: dict[str, str]) -> RecordPool:
    try:
        return load_pool(path, known)
    except ValueError as error:
        raise ValueError(f"{error} (exported data: of one --export-data, with the {ABOUT} that it wrote)") from error
