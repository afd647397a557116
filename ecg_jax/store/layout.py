"""Where runs live on disk.

    STORE/<study>/study.json                     the runs that the study asked for, and its settings
    STORE/<study>/responses/<response>.json      which signals losses are measured on, as a sketch of each record
    STORE/<study>/packs/<pack_id>/               pack.json owner.json checkpoints/: trunks that train together
                                                 (checkpoints may lie elsewhere, such as in a bucket)
    STORE/<study>/trunks/<trunk_id>/             config.json metrics.jsonl curve.csv segments.jsonl
    STORE/<study>/runs/<run_id>/                 config.json metrics.jsonl patients.csv sources.csv record.json
    STORE/<study>/runs/<run_id>/encoder/         of the runs whose weights the study keeps; see `encoder`

`record.json` is written last, atomically: a run that has one is done.
"""

from __future__ import annotations

import dataclasses
import json
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ecg_jax.codec import differences, fingerprint
from ecg_jax.config import RunConfig
from ecg_jax.extras import needs
from ecg_jax.files.whole_file import damaged, read_json, write_json
from ecg_jax.files.whole_folder import making
from ecg_jax.store.finished import Finished, read_record

if TYPE_CHECKING:
    from etils import epath

#: What the layout above is called in `study.json`.
FORMAT = 3


@dataclasses.dataclass(frozen=True)
class Store:
    """The folder of one study. `checkpoint_root` is another place for its checkpoints: a folder, or `gs://…`."""

    root: Path
    study: str
    checkpoint_root: str | None = None

    @property
    def path(self) -> Path:
        """`root/study`."""
        return self.root / self.study

    @property
    def packs(self) -> Path:
        """The folder of all packs."""
        return self.path / "packs"

    def pack(self, pack_id: str) -> Path:
        """The folder of a pack."""
        return self.packs / pack_id

    def checkpoints(self, pack_id: str) -> epath.Path:
        """The folder of a pack's checkpoints."""
        with needs("train"):  # here: who only reads what is finished does without
            from etils import epath
        if self.checkpoint_root is None:
            return epath.Path(self.pack(pack_id) / "checkpoints")
        return epath.Path(self.checkpoint_root) / self.study / pack_id

    def trunk(self, config: RunConfig) -> Path:
        """The folder of the run's trunk."""
        return self.path / "trunks" / config.trunk_id

    def run(self, config: RunConfig) -> Path:
        """The folder of the run."""
        return self.path / "runs" / config.run_id

    def encoder(self, config: RunConfig) -> Path:
        """The folder of the run's encoder, where the study keeps it."""
        return self.run(config) / "encoder"

    def is_done(self, config: RunConfig) -> bool:
        """Whether the run has its record."""
        return (self.run(config) / "record.json").exists()

    def finished(self, config: RunConfig) -> Finished:
        """A finished run with its record, as `finished.read_record` reads it."""
        return read_record(self.run(config))

    def record(self, config: RunConfig) -> dict[str, Any]:
        """The record of a finished run."""
        return self.finished(config).record

    def targets(self) -> list[RunConfig]:
        """The runs that the study asked for. Raises as `read_study` does."""
        path = self.path / "study.json"
        return parse_configs(path, read_study(path)["targets"])

    def recorded_packs(self) -> list[tuple[Path, list[RunConfig]]]:
        """The folders of all packs on record, and the last run of each of their trunks. Raises as `recorded_pack`."""
        return [(path.parent, self.recorded_pack(path.parent)) for path in sorted(self.packs.glob("*/pack.json"))]

    def recorded_pack(self, folder: Path) -> list[RunConfig]:
        """The last run of each trunk of the pack in this folder. Raises ValueError where its `pack.json` was damaged:
        the name of its folder is the fingerprint of its trunks."""
        path = folder / "pack.json"
        trees = read_json(path, remedy=_DELETE_PACK).get("members")
        members = parse_configs(path, trees) if isinstance(trees, list) else []
        if fingerprint([member.trunk_id for member in members]) != folder.name:
            raise damaged(path, "does not hold the trunks that its folder is named by", remedy=_DELETE_PACK)
        return members


_DELETE_PACK = "delete it: the next start plans these trunks anew"


def parse_configs(path: Path, trees: Sequence[Any]) -> list[RunConfig]:
    """The runs that the file `path` lists. Raises ValueError, naming it, for one that this version does not know."""
    try:
        return [RunConfig.from_json(tree) for tree in trees]
    except ValueError as error:
        raise ValueError(f"{path} holds a run that this ecg-jax does not know: {error}") from error


def check_folder(path: Path) -> None:
    """Raises OSError when `path` cannot be made or written to; makes nothing."""
    standing = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    if not standing.is_dir() or not os.access(standing, os.W_OK):
        reason = "is not writable" if standing.is_dir() else "is not a folder"
        raise OSError(f"cannot write to {path}: {standing} {reason}; choose another output folder")


def check_checkpoints(root: str) -> None:
    """Raises OSError when nothing can be written to where checkpoints are to lie: a folder, or `gs://…`, where only
    writing shows what is permitted."""
    if "://" not in root:
        check_folder(Path(root))
        return
    with needs("train"):
        from etils import epath
    probe = epath.Path(root) / f".probe-{secrets.token_hex(8)}"
    try:
        probe.write_text("can checkpoints be written here?")
        probe.unlink()
    except Exception as error:  # every backend of a bucket has kinds of its own
        told = str(error).partition("\n")[0][:300]  # some say nothing
        raise OSError(
            f"cannot write checkpoints to {root}: {type(error).__name__}: {told}; does the "
            "bucket exist, and may this machine's account create and delete objects in it?"
        ) from error


def check_settings(store: Store, settings: dict[str, Any]) -> None:
    """Raises ValueError when the study was made with other values of these settings, naming each difference."""
    path = store.path / "study.json"
    if not path.exists():
        return
    ours, theirs = json.loads(json.dumps(settings)), read_study(path)["settings"]
    changed = differences(ours, {key: value for key, value in theirs.items() if key in ours})
    if changed:
        raise ValueError(
            f"{path} was made with other settings ({'; '.join(changed)}): choose another output folder, "
            "or the settings it was made with"
        )


def open_store(root: Path, study: str, targets: Sequence[RunConfig], settings: dict[str, Any]) -> Store:
    """Makes the study's folder, or finds it again and adds these targets to those it has: a study may grow.

    `settings` says what the study is, in JSON values; `settings["target"]`, where given, is the name of the recordings
    that losses are measured on, and becomes a column of every exported table. Raises ValueError, naming each
    difference, when the folder was made with other settings, and OSError when it cannot be written.
    """
    check_folder(root)
    store = Store(root, study)
    path = store.path / "study.json"
    with making(path):
        check_settings(store, settings)
        before = store.targets() if path.exists() else []
        known = {target.run_id for target in before}
        every = [*before, *(target for target in targets if target.run_id not in known)]
        write_study(path, {"format": FORMAT, "settings": settings, "targets": [target.stored() for target in every]})
    return store


def write_study(path: Path, tree: dict[str, Any]) -> None:
    """Writes a `study.json` with a checksum of its own."""
    bare = {key: value for key, value in tree.items() if key != "checksum"}
    write_json(path, bare | {"checksum": fingerprint(bare)})


def read_study(path: Path) -> dict[str, Any]:
    """Reads a `study.json`: format, settings and targets. Raises ValueError when it was damaged, or is of another
    layout, with the remedy."""
    remedy = "copy it again from where it came, or delete it: the next start of the study writes it"
    tree = read_json(path, remedy=remedy)
    found = tree.get("format", 1)
    if type(found) is int and found != FORMAT:
        older = "export it with the version that wrote it and choose another output folder"
        remedy = older if found < FORMAT else "upgrade"
        raise ValueError(f"{path} has format {found}, this ecg-jax reads {FORMAT}: {remedy}")
    expected = tree.pop("checksum", None)
    if expected is not None and expected != fingerprint(tree):
        raise damaged(path, "is not what was written: its checksum is another", remedy=remedy)
    for name, kind in {"format": int, "settings": dict, "targets": list}.items():
        if type(tree.get(name)) is not kind:
            raise damaged(path, f"says {name} = {tree.get(name)!r:.80}", remedy=remedy)
    return tree


def studies(root: Path) -> list[Store]:
    """The studies under a store. Raises FileNotFoundError when there is none."""
    found = [Store(root, path.parent.name) for path in sorted(root.glob("*/study.json"))]
    if not found:
        raise FileNotFoundError(f"{root} holds no study: expected STORE/<study>/study.json")
    return found
