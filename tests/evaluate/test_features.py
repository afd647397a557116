"""Features of encoders, ours and foreign ones, and what is refused of them."""

import dataclasses
import sys

import numpy as np
import pytest
from support.places import REPOSITORY
from support.synthetic_pools import made_up_pool
from support.tiny_encoders import tiny_encoder

import ecg_jax
from ecg_jax.data.ecg import LEADS, normalise
from ecg_jax.evaluate.boosting import fit_boosted
from ecg_jax.evaluate.features import Extractor, extract, of_adapter, of_encoder, of_random
from ecg_jax.evaluate.handmade import NAMES, by_hand, heart_rate_bpm
from ecg_jax.evaluate.metrics import auroc
from ecg_jax.evaluate.references import handmade, principal_components

POOL = made_up_pool(70, 4)
ADAPTERS = REPOSITORY / "docs" / "adapters"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("encoders") / "encoder"
    tiny_encoder(folder)
    return folder


@pytest.fixture(scope="module")
def ours(folder):
    return of_encoder(folder)


def plain(features, **changes):
    return Extractor(**({"name": "a model", "identity": "0", "features": features} | changes))


def test_features_are_the_encoders_and_are_kept(folder, ours, tmp_path):
    found = extract(ours, POOL, cache=tmp_path)
    np.testing.assert_array_equal(found, ecg_jax.load_encoder(folder)(POOL.ecg))
    (kept,) = tmp_path.iterdir()
    np.save(kept, found + 1)
    np.testing.assert_array_equal(extract(ours, POOL, cache=tmp_path), found + 1)
    extract(ours, POOL.take(np.arange(69)), cache=tmp_path)
    other = dataclasses.replace(POOL, ecg=POOL.ecg + np.int16(1))
    extract(ours, other, cache=tmp_path)
    extract(of_encoder(folder, leads=("II",)), POOL, cache=tmp_path)
    extract(ours, POOL, cache=tmp_path, tokens=True)
    assert len(list(tmp_path.iterdir())) == 5


def test_features_are_the_means_of_tokens_and_hang_on_no_batch(ours, monkeypatch):
    whole = extract(ours, POOL)
    np.testing.assert_allclose(whole, extract(ours, POOL, tokens=True).mean(axis=1), atol=1e-5)
    monkeypatch.setattr("ecg_jax.evaluate.features.BATCH_RECORDS", 9)
    np.testing.assert_allclose(extract(ours, POOL), whole, atol=1e-5)


def test_random_encoders_differ_by_their_seed_alone(ours):
    config = ours.encoder.config
    one, again, other = (extract(of_random(config, seed), POOL) for seed in (0, 0, 1))
    assert one.tobytes() == again.tobytes() and not np.allclose(one, other)


def test_masked_leads_are_not_seen(folder, ours):
    of_two = extract(of_encoder(folder, leads=("I", "II")), POOL)
    np.testing.assert_array_equal(of_two, ours.encoder(POOL.ecg[..., :2], leads=("I", "II")))
    with pytest.raises(ValueError, match="each must be one of"):
        extract(of_encoder(folder, leads=("I", "I")), POOL)


def test_another_rate_is_resampled_only_when_asked(ours):
    time = np.arange(2500) / 250
    ecg = np.repeat(300 * np.sin(2 * np.pi * np.array([1.0, 1.4])[:, None] * time)[..., None], 12, axis=-1)
    faster = dataclasses.replace(POOL.take(np.arange(2)), ecg=ecg.astype(np.int16), sample_rate_hz=250)
    with pytest.raises(ValueError, match=r"reads 100 Hz, the records are at 250 Hz: .*--resample"):
        extract(ours, faster)
    sampled = 300 * np.sin(2 * np.pi * np.array([1.0, 1.4])[:, None] * np.arange(1000) / 100)
    same = dataclasses.replace(
        faster, ecg=np.repeat(sampled[..., None], 12, axis=-1).astype(np.int16), sample_rate_hz=100
    )
    np.testing.assert_allclose(extract(ours, faster, resample=True), extract(ours, same), atol=0.02)
    with pytest.raises(ValueError, match="reads 1000 samples, the records have 500"):
        extract(ours, dataclasses.replace(POOL, ecg=POOL.ecg[:, :500]))


def test_the_sealed_fold_gives_no_features(ours):
    sealed = made_up_pool(10, 2, name="ptbxl", folds=10)
    with pytest.raises(ValueError, match=r"1 records of PTB-XL's fold 10 are to be scored, such as ptbxl/00009"):
        extract(ours, sealed)
    assert len(extract(ours, sealed.in_folds((9,)))) == 1


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (lambda ecg: np.ones((len(ecg) - 1, 3)), "a model returned 69 rows of features for 70 records"),
        (lambda ecg: np.ones((len(ecg), 3)), "gives all 70 records the same features"),
        (lambda ecg: np.ones(len(ecg)), r"features of shape \(70,\) for 70 records"),
        (lambda ecg: np.where(np.arange(len(ecg)) < 2, np.nan, 1.0)[:, None], "features of 2 of 70 records are no fin"),
    ],
)
def test_what_are_no_features_is_refused(features, message):
    with pytest.raises(ValueError, match=message):
        extract(plain(features), POOL)


def test_features_of_several_widths_are_refused(monkeypatch):
    monkeypatch.setattr("ecg_jax.evaluate.features.BATCH_RECORDS", 40)
    with pytest.raises(ValueError, match="several widths"):
        extract(plain(lambda ecg: np.random.default_rng(0).normal(size=(len(ecg), len(ecg)))), POOL)
    with pytest.raises(ValueError, match="none of tokens"):
        extract(plain(lambda ecg: ecg), POOL, tokens=True)


def test_foreign_models_come_through_two_functions(tmp_path):
    components = np.linalg.qr(np.random.default_rng(0).normal(size=(160, 16)))[0]
    np.save(tmp_path / "components.npy", components)
    (tmp_path / "kernels.txt").write_text("3 8\n")
    foreign = of_adapter(ADAPTERS / "principal_components.py", tmp_path / "components.npy", sample_rate_hz=100)
    leads = [LEADS.index(lead) for lead in ("I", "II", "V1", "V2", "V3", "V4", "V5", "V6")]
    expected = (normalise(POOL.ecg)[..., leads].reshape(70, 50, 160) @ components).std(axis=1)
    np.testing.assert_allclose(extract(foreign, POOL), expected, rtol=1e-5)
    convolved = of_adapter(ADAPTERS / "random_convolutions.py", tmp_path / "kernels.txt", sample_rate_hz=100)
    assert extract(convolved, POOL).shape == (70, 16) and convolved.identity != foreign.identity
    fewer = of_adapter(
        ADAPTERS / "random_convolutions.py", tmp_path / "kernels.txt", sample_rate_hz=100, leads=("I", "II")
    )
    with pytest.raises(ValueError, match="the records are 2 leads at 100 Hz"):
        extract(fewer, POOL)


def test_what_is_no_adapter_is_told(tmp_path):
    (tmp_path / "half.py").write_text("def load(path):\n    return None\n")
    with pytest.raises(ValueError, match=r"half\.py lacks features: an adapter has load\(path\) and features"):
        of_adapter(tmp_path / "half.py", tmp_path / "half.py", sample_rate_hz=100)
    with pytest.raises(FileNotFoundError, match="none does not exist"):
        of_adapter(tmp_path / "half.py", tmp_path / "none", sample_rate_hz=100)
    (tmp_path / "adapter.txt").write_text("")
    with pytest.raises(ValueError, match="no Python file"):
        of_adapter(tmp_path / "adapter.txt", tmp_path / "half.py", sample_rate_hz=100)


def test_principal_components_keep_most_of_a_patch():
    few, many = principal_components(POOL, 2), principal_components(POOL, 32)
    assert extract(few, POOL).shape == (70, 2) and few.identity != many.identity
    energy = (many.tokens(POOL.ecg) ** 2).sum()
    x = normalise(POOL.ecg)[..., [0, 1, 6, 7, 8, 9, 10, 11]]
    assert 0.9 < energy / (x**2).sum() <= 1 + 1e-5
    assert (np.diff((many.tokens(POOL.ecg) ** 2).sum(axis=(0, 1))) <= 1e-3 * energy).all()
    with pytest.raises(ValueError, match="161 components of patches of 20 samples x 8 leads"):
        principal_components(POOL, 161)


def beats(rate_bpm, qrs_s=0.04, t_mv=0.3, seconds=10, hz=100):
    """A regular rhythm of Gaussian waves in all leads."""
    time, record = np.arange(seconds * hz) / hz, 0
    for at in np.arange(0.5, seconds, 60 / rate_bpm):
        record = record + np.exp(-0.5 * ((time - at) / (qrs_s / 2)) ** 2)
        record = record + t_mv * np.exp(-0.5 * ((time - at - 0.3) / 0.04) ** 2)
    return np.repeat((1000 * record)[:, None], 12, axis=1).astype(np.int16)


def test_features_by_hand_measure_what_they_are_called():
    ecg = np.stack([beats(60), beats(90), beats(60, qrs_s=0.07), beats(60, t_mv=0.05)])
    found = {name: column for name, column in zip(NAMES, by_hand(ecg, 100).T, strict=True)}
    np.testing.assert_allclose(60 / found["mean RR"], [60, 90, 60, 60], rtol=0.01)
    np.testing.assert_allclose(heart_rate_bpm(ecg, 100), [60, 90, 60, 60], rtol=0.01)
    assert found["QRS"][2] > 1.4 * found["QRS"][0] and abs(found["R to T peak"][0] - 0.3) < 0.02
    assert found["T in II"][0] > 3 * found["T in II"][3] > 0 and found["SD of RR"].max() < 0.01
    assert (found["sameness of beats"] > 0.9).all()
    assert extract(handmade(100), POOL).shape == (70, len(NAMES))
    assert np.isnan(heart_rate_bpm(np.zeros((1, 1000, 12), np.int16), 100)).all()
    assert np.isfinite(by_hand(np.zeros((1, 1000, 12), np.int16), 100)).all()


def test_boosted_trees_learn_what_no_line_parts():
    rng = np.random.default_rng(0)
    feature = rng.normal(size=(600, 3))
    positive = (feature[:, 0] * feature[:, 1] > 0)[:, None]
    scores = fit_boosted(feature[:400], positive[:400], feature[400:])
    assert auroc(scores[:, 0], positive[400:, 0]) > 0.9
    np.testing.assert_array_equal(scores, fit_boosted(feature[:400], positive[:400], feature[400:]))
    with pytest.raises(ValueError, match="class 0 has one value in all 400"):
        fit_boosted(feature[:400], np.ones((400, 1), bool), feature[400:])


def test_who_lacks_scikit_learn_is_told_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'ecg-jax\[evaluate\]'"):
        fit_boosted(np.zeros((4, 1)), np.zeros((4, 1), bool), np.zeros((4, 1)))
