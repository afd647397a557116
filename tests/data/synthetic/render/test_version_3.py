"""Version 3 from keys to leads: its records are whole, its own, repeatable, and leave version 2 alone."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from ecg_jax.data.synthetic.physiology.sampling import Grid
from ecg_jax.data.synthetic.randomness.draws import record_keys
from ecg_jax.data.synthetic.render.identity import constants
from ecg_jax.data.synthetic.render.version_3 import Recipe, keys_of, render
from ecg_jax.data.synthetic.render.version_3 import records as records_of

GRID, RECORDS = Grid(250, 10), 32
WHOLE, QUIET, BARE = Recipe(), Recipe(noise=None), Recipe(noise=None, recorder=None)


@functools.cache
def records(first: int = 0):
    return records_of(4, np.arange(first, first + RECORDS), WHOLE, GRID)


def test_records_are_whole_and_finite_and_the_same_again():
    _, written, clean, fiducials = records()
    assert written.shape == clean.shape == (RECORDS, 2500, 12) and fiducials.shape[0] == RECORDS
    assert np.isfinite(written).all() and np.isfinite(clean).all()
    assert np.median(np.ptp(clean[:, :, 1], axis=1)) > 0.4 and np.abs(clean).max() < 6.0
    assert np.array_equal(written, records.__wrapped__()[1])
    assert np.abs(records(first=RECORDS)[1] - written).max() > 0.1


def test_leads_are_rounded_one_by_one_and_clean_ones_are_exact():
    draft, written, clean, _ = records()
    np.testing.assert_allclose(clean[:, :, 2], clean[:, :, 1] - clean[:, :, 0], atol=1e-5)
    step = np.asarray(draft.settings.lsb_mv, np.float64)[:, None]
    residual = (written[:, :, 2] - (written[:, :, 1] - written[:, :, 0])) / step
    assert np.abs(residual).max() < 1.01 and 0.1 < (np.abs(residual) > 0.5).mean() < 0.6


def test_fiducials_lie_on_their_waves():
    _, _, clean, fiducials = records()
    rr = 0
    for leads, marks in zip(clean, fiducials):
        inside = np.isfinite(marks).all((1, 2)) & (marks[:, 0, 0] > 0.1) & (marks[:, 2, 2] < 9.9)
        assert inside.sum() >= 5
        size = np.sqrt((leads[:, [0, 1, *range(6, 12)]] ** 2).sum(1))
        for p, qrs, t in marks[inside]:
            assert p[0] < p[2] <= qrs[0] + 0.03 and qrs[0] < qrs[1] < qrs[2] < t[1] < t[2]
            at = [round(250 * time) for time in (qrs[0], qrs[2])]
            peak = size[at[0] : at[1] + 1].max()
            assert peak > 2 * size[at[0]]
        rr += inside.sum()
    assert rr > 200


def test_without_noise_the_recorder_alone_is_left_and_noise_needs_one():
    draft, written, clean, _ = records()
    quiet = np.asarray(render(draft, QUIET, GRID)[0])
    # Swaps, loose electrodes and filters move some records; most are what the heart gave, less the slow baseline.
    assert np.median(np.abs(quiet - clean).max((1, 2))) < 0.4
    assert np.median(np.abs(written - quiet).max((1, 2))) > 0.02
    bare, of_heart = render(draft, BARE, GRID)
    assert np.array_equal(bare, of_heart) and np.array_equal(of_heart, clean)
    with pytest.raises(ValueError, match="noise needs a recorder"):
        render(draft, dataclasses.replace(BARE, noise=WHOLE.noise), GRID)


def test_keys_are_of_version_3_and_its_constants_none_of_version_2s():
    ours, theirs = (
        keys_of(4, np.arange(3)),
        record_keys(np.uint32(4), np.zeros(3, np.uint32), np.arange(3, dtype=np.uint32)),
    )
    assert not np.array_equal(jax.random.key_data(ours), jax.random.key_data(theirs))
    assert not [key for key in constants() if key.startswith(("version_3.", "electrode_noise.", "variability."))]
