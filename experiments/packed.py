"""A study's data as a few files: what a node without WFDB, TFDS and Grain trains from."""

from __future__ import annotations

from pathlib import Path

from ecg_jax.data.npz import load_pool, save_pool
from ecg_jax.evaluate.heldout import freeze
from ecg_jax.store import check_folder, read_json, write_json
from experiments.data import StudyData

#: Two pools, and what else there is to say of them, written last.
TRAINING, HELDOUT, ABOUT = "training.npz", "heldout.npz", "about.json"


def pack_data(folder: Path, data: StudyData) -> None:
    """Writes a study's records to `folder`: training folds and held-out records; the sealed fold is not among them."""
    check_folder(folder)
    save_pool(folder / TRAINING, data.training)
    save_pool(folder / HELDOUT, data.heldout.pool)
    about = {name: getattr(data, name) for name in ("identity", "note", "frozen")}
    patches = data.heldout.hidden.shape[2]
    write_json(folder / ABOUT, about | {"response": data.heldout.identity, "patches": patches})


def load_packed(folder: Path) -> StudyData:
    """The data that `pack_data` wrote, with the masks drawn anew.

    Raises FileNotFoundError for a folder without them, and ValueError when the held-out records and masks are not
    those that were packed.
    """
    if not (folder / ABOUT).is_file():
        raise FileNotFoundError(f"{folder} holds no packed data: it has no {ABOUT}; write them with --pack {folder}")
    about = read_json(folder / ABOUT)
    heldout = freeze(load_pool(folder / HELDOUT), about["patches"])
    if heldout.identity != about["response"]:
        raise ValueError(
            f"{folder / HELDOUT}: records and masks are {heldout.identity}, those that were packed were "
            f"{about['response']}: pack the data again with this version"
        )
    training = load_pool(folder / TRAINING)
    return StudyData(training, heldout, about["identity"], about["note"], about["frozen"], excluded=())
