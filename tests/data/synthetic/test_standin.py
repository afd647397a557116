import numpy as np
import pytest

from ecg_jax.data.ecg import LEADS, RecordPool
from ecg_jax.data.synthetic import ADULT, SyntheticSource, fingerprint
from ecg_jax.data.synthetic.standin import CLINIC, SOURCE, standin_pool


@pytest.fixture(scope="module")
def pool() -> RecordPool:
    return standin_pool(60)


def test_it_says_what_it_is(pool: RecordPool) -> None:
    assert pool.source == SOURCE == "stand-in (not real)"
    assert pool.record_id[0] == "standin/00001" and len(set(pool.record_id)) == len(pool)
    assert set(pool.unit) == {"mV"} and set(pool.labels) == {()}
    assert pool.ecg.shape == (len(pool), 1000, 12)


def test_folds_divide_patients(pool: RecordPool) -> None:
    assert set(pool.fold) == set(range(1, 11))
    patients, records = np.unique(pool.patient_id, return_counts=True)
    assert len(patients) == 60 and set(records) == {1, 2}
    for patient in patients:
        assert len(set(pool.fold[pool.patient_id == patient])) == 1


def test_it_is_deterministic_and_nested(pool: RecordPool) -> None:
    smaller = standin_pool(20)
    assert np.array_equal(smaller.ecg, pool.ecg[: len(smaller)])


def test_two_recordings_of_a_patient_share_the_heart_not_the_moment(pool: RecordPool) -> None:
    patients, records = np.unique(pool.patient_id, return_counts=True)
    twice = patients[records == 2]
    ecg = pool.ecg.astype(float)
    shape = lambda record: np.cov(ecg[record].T)[np.triu_indices(12)]  # noqa: E731

    def likeness(a: int, b: int) -> float:
        return float(np.corrcoef(shape(a), shape(b))[0, 1])

    for patient in twice:
        first, second = np.flatnonzero(pool.patient_id == patient)
        assert not np.array_equal(pool.ecg[first], pool.ecg[second])
        assert likeness(first, second) > 0.9
    strangers = [likeness(a, a + 5) for a in range(0, 50, 5)]
    assert np.median(strangers) < 0.9


def test_einthoven_holds_under_its_noise(pool: RecordPool) -> None:
    lead = dict(zip(LEADS, np.moveaxis(pool.ecg.astype(int), -1, 0)))
    assert np.abs(lead["III"] - lead["II"] + lead["I"]).max() <= 1
    assert np.abs(2 * lead["aVR"] + lead["I"] + lead["II"]).max() <= 2


def test_it_is_unlike_what_pretraining_sees(pool: RecordPool) -> None:
    """Another population, and noise: between 25 and 40 Hz the quietest fifth of a record is not silent."""
    assert fingerprint(CLINIC) != fingerprint(ADULT)
    synthetic = SyntheticSource(0).read(np.arange(64))

    def floor_counts(ecg: np.ndarray) -> float:
        spectrum = np.fft.rfft(ecg.astype(float), axis=1)
        frequency_hz = np.fft.rfftfreq(1000, 0.01)
        spectrum[:, (frequency_hz < 25) | (frequency_hz > 40)] = 0
        band = np.abs(np.fft.irfft(spectrum, axis=1))
        return float(np.median(np.percentile(band, 20, axis=1)))

    assert floor_counts(pool.ecg) > 1.7 * floor_counts(synthetic)


def test_too_few_patients_are_refused() -> None:
    with pytest.raises(ValueError, match="patients is 9"):
        standin_pool(9)
