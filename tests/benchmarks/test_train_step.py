"""The train-step benchmark: what its two sides say to each other, without PyTorch."""

import json
import sys

import numpy as np
import pytest

from benchmarks.training import train_step
from benchmarks.training.train_step import Setting, Worker
from ecg_jax.scaling.flops import parameters

SETTING = Setting(10_000, 1, compiled=False, keep_freed=False)

ECHO = "import json, sys\nfor line in sys.stdin: print(json.dumps({'said': line.strip()}), flush=True)"


def test_a_worker_answers_and_its_end_is_an_error():
    worker = Worker([sys.executable, "-c", ECHO], 1, {})
    assert worker.ask("steps 3") == {"said": "steps 3"}
    worker.close()
    ended = Worker([sys.executable, "-c", "raise SystemExit(7)"], 1, {})
    with pytest.raises((RuntimeError, BrokenPipeError)):
        ended.ask("check")


def test_sides_that_disagree_are_refused():
    checked = {name: {"loss": 1.0, "gradient_norm": 2.0} for name in ("ours", "torch")}
    train_step._agree(checked, SETTING)
    checked["torch"]["gradient_norm"] = 2.001
    with pytest.raises(RuntimeError, match=r"gradient_norm at 10k: ours 2.0, PyTorch's 2.001"):
        train_step._agree(checked, SETTING)


def test_our_side_checks_and_steps_with_weights_for_every_module(mesh, tmp_path, monkeypatch):
    from benchmarks.training import train_step_worker

    monkeypatch.setattr(train_step_worker, "BATCH_RECORDS", 4)
    specification = json.loads(json.dumps(SETTING.specification()))
    answer = train_step_worker.commands(specification, tmp_path / "arrays.npz")
    checked, first = answer(["check"]), answer(["steps", "1"])
    assert np.isfinite([checked["loss"], checked["gradient_norm"], first["loss"]]).all()
    assert checked["gradient_norm"] > 0
    assert first["compile_s"] > 0
    weights = dict(np.load(tmp_path / "arrays.npz"))
    assert weights.pop("batch").dtype == np.int16
    assert weights.pop("hidden").dtype == bool
    assert weights.keys() == checked["multipliers"].keys()
    assert sum(w.size for w in weights.values()) == parameters(SETTING.model).total
    c = SETTING.model
    assert weights["blocks.0.up.weight"].shape == (4 * c.width, c.width)
