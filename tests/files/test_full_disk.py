"""A full disk, wherever it strikes: one error that names the path, nothing half-written, and room to go on."""

import contextlib
import errno
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import safetensors
from support.finished_stores import begin, finished_store, on, targets
from support.places import REPOSITORY
from support.synthetic_pools import made_up_pool

from ecg_jax.data.storage.pool_file import save_pool
from ecg_jax.files.whole_file import (
    DiskFullError,
    append_text,
    is_disk_full,
    naming,
    write_json,
    write_text,
    write_texts,
)
from ecg_jax.files.whole_folder import whole_folder
from ecg_jax.monitor import to_trackers
from ecg_jax.scaling import ladder
from ecg_jax.store.layout import open_store
from ecg_jax.store.merge import merge
from ecg_jax.store.metrics_log import MetricsLog
from ecg_jax.store.tables import export
from scaling_fits.figures.style import new_figure, save_figure
from scaling_fits.files import write_text as write_result

TARGETS = targets()
LARGE = "x" * 2**17


@pytest.fixture
def full(small_disk):
    """A folder on a file system of 512 KiB, and `fill()`, a context in which less than a page of it is free."""
    folder, mount = small_disk
    mount("size=512k")

    @contextlib.contextmanager
    def fill():
        filler = folder / "filler"
        with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        yield
        filler.unlink()

    return folder, fill


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != "filler"}


def write_log(folder, _):
    log = MetricsLog(folder / "metrics.jsonl")
    for step in range(40):
        log.add(step, {"train/loss": 1.0, "norm/grad": 1.0, "opt/lr": 1e-3, "perf/step_seconds": 0.1234567890123456789})
    log.flush()


def append(folder, _):
    append_text(folder / "old.csv", LARGE)


def write_figure(folder, _):
    figure = new_figure(3.0, 2.0)
    figure.subplots().plot([0, 1])
    save_figure(figure, folder / "figure", pd.DataFrame({"x": [1]}))


def write_folder(folder, _):
    with whole_folder(folder / "whole") as building:
        (building / "table.csv").write_text(LARGE)


def write_encoder(folder, _):
    import jax

    from ecg_jax import models
    from ecg_jax.distributed.mesh import make_mesh
    from ecg_jax.encoder import export_encoder
    from ecg_jax.outputs.model_card import CardFacts, model_card

    config = targets(model=ladder.model_config(10_000))[0]
    with jax.set_mesh(make_mesh(jax.devices()[:1])):
        shapes = jax.eval_shape(models.build(config.model).init, jax.random.key(0))
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    record = finished_store(folder.parent / "elsewhere", [config]).record(config)
    card = model_card(config, CardFacts(record, made_up_pool(3), made_up_pool(3)))
    export_encoder(folder / "encoder", config, params, card)


def merged(folder, elsewhere):
    source = finished_store(elsewhere / "source", TARGETS)
    merge(source, on(source, folder))


def exported(folder, elsewhere):
    export(finished_store(elsewhere / "source", TARGETS), folder)


def replayed(folder, elsewhere):
    to_trackers.to_tensorboard(finished_store(elsewhere / "source", TARGETS), folder)


WRITERS = {
    "text": lambda folder, _: write_text(folder / "a" / "table.csv", LARGE),
    "texts": lambda folder, _: write_texts({folder / "old.csv": "short", folder / "b.csv": LARGE}),
    "json": lambda folder, _: write_json(folder / "tree.json", [LARGE]),
    "result": lambda folder, _: write_result(folder / "fits.json", LARGE),
    "log": write_log,
    "append": append,
    "figure": write_figure,
    "folder": write_folder,
    "pool": lambda folder, _: save_pool(folder / "pool.npz", made_up_pool(3)),
    "encoder": write_encoder,
    "merge": merged,
    "export": exported,
    "replay": replayed,
}


@pytest.mark.parametrize("what", WRITERS)
def test_a_full_disk_is_named_leaves_nothing_and_the_same_goes_on(full, tmp_path, what):
    folder, fill = full
    (folder / "old.csv").write_text("old")
    if what == "merge":
        begin(open_store(folder, "s", TARGETS, {"target": "t"}), TARGETS[0])
    before = contents(folder)
    with fill(), pytest.raises(OSError, match=r"[Nn]o space left") as raised:
        WRITERS[what](folder, tmp_path)
    assert raised.value.errno == errno.ENOSPC and str(folder) in str(raised.value)
    assert str(raised.value).count("\n") == 0 and "unfinished" not in str(raised.value)
    left = contents(folder)
    assert {path: left[path] for path in left if left[path]} == before or what == "merge"
    assert not [path for path in left if path.name.startswith(".")]
    WRITERS[what](folder, tmp_path)


def test_what_a_library_makes_of_a_full_disk_is_known(tmp_path):
    told = "Error while serializing: I/O error: No space left on device (os error 28)"
    for error in (safetensors.SafetensorError(told), OSError(errno.EDQUOT, "Disk quota exceeded"), OSError(28, "full")):
        with pytest.raises(DiskFullError, match=r"no space left on the disk: .*x: free some"), naming(tmp_path / "x"):
            raise error
    wrapped = RuntimeError("a worker failed")
    wrapped.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert is_disk_full(wrapped) and not is_disk_full(RuntimeError("no")) and not is_disk_full(None)


def test_an_error_without_a_file_gets_its_own(tmp_path):
    with pytest.raises(OSError, match=r"Input/output error: '.*x'"), naming(tmp_path / "x"):
        raise OSError(errno.EIO, "Input/output error")
    with pytest.raises(FileNotFoundError, match="y"), naming(tmp_path / "x"):
        (tmp_path / "y").read_text()


NAMES = """
import sys, pathlib
from ecg_jax.files import whole_file
for name in ("record.json", "pool.npz"):
    print(whole_file.beside(pathlib.Path(name)))
"""


def test_no_two_processes_share_a_temporary_name():
    """As in containers, whose processes have equal numbers: the names do not hang on them."""
    found = [subprocess.run([sys.executable, "-c", NAMES], capture_output=True, text=True) for _ in range(2)]
    names = [name for run in found for name in run.stdout.split()]
    assert len(set(names)) == len(names) == 4
    source = REPOSITORY
    for package in ("ecg_jax", "scaling_fits", "experiments", "benchmarks"):
        for path in (source / package).rglob("*.py"):
            text = path.read_text(encoding="utf-8")
            assert "getpid" not in text or path.name == "lease.py", f"{path}: a name with a process's number"
