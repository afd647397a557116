"""The speed benchmark's parts: timing in turn, the integration of the peer's equations, the commit."""

import numpy as np
import pytest

from benchmarks.harness import machine
from benchmarks.harness.timing import Contender, Timed, interleaved
from benchmarks.synthetic import peers, speed


def test_interleaved_runs_all_in_turn_and_tables_their_ratio():
    calls = []
    names = "NeuroKit2 multileads", "ours"
    listed = [Contender(name, 100, 10**i, lambda name=name: calls.append(name)) for i, name in enumerate(names)]
    timed = interleaved(listed, 2, 0.0)
    assert calls[:2] == list(names)
    assert calls[-4:] == [names[0], names[1], names[1], names[0]]
    table = speed.speed_table(timed)
    assert table.ratio_median[0] == 1
    assert (table.best_per_s >= table.median_per_s).all()


def test_rest_is_what_the_stages_leave_of_the_whole():
    seconds = {"stage draw": [1e-6, 3e-6], "stage fiducials": [9e-6, 9e-6], speed.WHOLE: [5e-6, 6e-6]}
    timed = [Timed(Contender(name, 100, 1, list), np.array(s), 0.0) for name, s in seconds.items()]
    rest = speed.stage_table(timed).iloc[-1]
    assert (rest.best_us, rest.median_us) == pytest.approx((4.0, 3.5))


def test_runge_kutta_solves_the_equations():
    rr_s, gain = np.array([0.7, 1.0]), np.ones((1, 5))
    coarse, fine = (peers.ecgsyn_rk4(rr_s, gain, rate, 3) for rate in (500, 2000))
    assert np.abs(coarse - fine[:, ::4]).max() < 1e-4 * np.ptp(fine)
    assert np.ptp(fine[1, :2000]) > 0.01


def test_commit_is_read_from_loose_and_packed_references(tmp_path):
    assert machine.commit(tmp_path) == ""
    (tmp_path / "HEAD").write_text("ref: refs/heads/main\n")
    (tmp_path / "packed-refs").write_text("# pack-refs\nabc123 refs/heads/main\n")
    assert machine.commit(tmp_path) == "abc123"
    (tmp_path / "refs" / "heads").mkdir(parents=True)
    (tmp_path / "refs" / "heads" / "main").write_text("def456\n")
    assert machine.commit(tmp_path) == "def456"
