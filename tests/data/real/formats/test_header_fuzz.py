"""Headers with fields changed, lost, doubled or cut: recordings are read as they were written, or as `wfdb` reads them,
or refused in one line; never a traceback, never other values."""

import numpy as np
import pytest
import wfdb
from support.edf_writing import discontinuous
from support.edf_writing import write as write_edf
from support.wfdb_writing import counts, lines, packed, write

from ecg_jax.data.lead_names import lead_order
from ecg_jax.data.real.formats.edf import read_edf
from ecg_jax.data.real.formats.wfdb_record import read_record

STEPS = counts(samples=5500)
HEADER = [*lines(STEPS, forms="16+24"), "# Age: 60"]
WORDS = ["", "0", "-1", "1e3", "nan", "16", "212", "16x2", "16:3", "5000", "5000.5", "10:22:00", "2014-05-08", "mV",
         "/", "(", "200(0)/uV", "200(5)/mV", "I", "Lead I", "#", "\t", "99999999999", "1e999", "~", "+", "\u00b5V",
         "../r.dat", "500/500", "1,5", "\0", "r.hea"]  # fmt: skip
CHARACTERS = "0123456789.:/()x+-e \t\u00b5#,~"


def changed(rng: np.random.Generator) -> list[str]:
    """A copy of the header with one or two words changed, put in, taken out, or a line cut or doubled."""
    header = list(HEADER)
    for _ in range(rng.integers(1, 3)):
        k = 0 if rng.random() < 0.4 else int(rng.integers(len(header)))
        words = header[k].split(" ")
        j, word = int(rng.integers(len(words))), WORDS[rng.integers(len(WORDS))]
        at = int(rng.integers(len(words[j]) + 1))
        match rng.integers(7):
            case 0:
                words[j] = word
            case 1:
                words.insert(j, word)
            case 2:
                del words[j]
            case 3:
                words[j] += word
            case 4:
                words[j] = words[j][:at] + CHARACTERS[rng.integers(len(CHARACTERS))] + words[j][at + 1 :]
            case 5:
                words = words[:j]
            case _:
                header.insert(k, header[k])
        header[k] = " ".join(words)
    return header


def by_wfdb(path) -> np.ndarray | None:
    try:
        record = wfdb.rdrecord(str(path.with_suffix("")))
        return record.p_signal[:, lead_order([name or "" for name in record.sig_name])]
    except Exception:  # it has no errors of its own
        return None


@pytest.mark.parametrize("seeds", [range(150), pytest.param(range(150, 6000), marks=pytest.mark.long)], ids=len)
@pytest.mark.filterwarnings("ignore")
def test_wfdb_headers(tmp_path, seeds):
    data = {"r.dat": bytes(24) + packed(STEPS, "16")}
    outcomes = {"read": 0, "refused": 0}
    for seed in seeds:
        path = write(tmp_path, changed(np.random.default_rng(seed)), data)
        try:
            found = read_record(path, lead_order)
        except ValueError as error:
            outcomes["refused"] += 1
            assert "\n" not in str(error) and str(tmp_path) not in str(error), seed
            continue
        outcomes["read"] += 1
        if None in {signal.gain for signal in found.signals}:
            continue  # which no record in millivolts is made of
        theirs = by_wfdb(path)
        if theirs is None or theirs.shape != found.samples.shape:  # it takes the digits of what is no length for one
            theirs = (STEPS - [signal.baseline for signal in found.signals]) / [signal.gain for signal in found.signals]
        known = np.isfinite(theirs)  # what a skew leaves beyond the end is continued here
        np.testing.assert_allclose(found.samples[known], theirs[known], atol=1e-9, err_msg=f"{seed}")
    assert min(outcomes.values()) > len(seeds) / 10


@pytest.mark.parametrize("seeds", [range(150), pytest.param(range(150, 6000), marks=pytest.mark.long)], ids=len)
def test_edf_headers(tmp_path, seeds):
    kinds = [write_edf(tmp_path / "a.edf"), discontinuous(tmp_path / "b.edf", None)]
    originals = [(path.read_bytes(), read_edf(path, lead_order).samples) for path in kinds]
    values = [b"-1      ", b"0       ", b"nan     ", b"1e9     ", b"        ", b"1,5     ", b"\xff" * 8]
    outcomes = {"read": 0, "refused": 0}
    for seed in seeds:
        rng = np.random.default_rng(seed)
        original, truth = originals[seed % 2]
        content, limits = (
            bytearray(original),
            slice(256 + 104 * int(original[252:256]), 256 + 136 * int(original[252:256])),
        )
        for _ in range(rng.integers(1, 4)):
            at = int(rng.integers(184, 256) if rng.random() < 0.5 else rng.integers(int(original[184:192]) - 8))
            match rng.integers(3):
                case 0:
                    content[at] ^= 1 << int(rng.integers(8))
                case 1:
                    content[at] = b"0123456789-+.,eE \0\xb5"[rng.integers(19)]
                case _:
                    content[at : at + 8] = values[rng.integers(len(values))]
        path = tmp_path / "r.edf"
        path.write_bytes(content[: rng.integers(len(content))] if rng.random() < 0.1 else content)
        try:
            found = read_edf(path, lead_order)
        except ValueError as error:
            outcomes["refused"] += 1
            assert "\n" not in str(error) and str(tmp_path) not in str(error), seed
            continue
        outcomes["read"] += 1
        if found.rate_hz == 500 and content[limits] == original[limits]:
            np.testing.assert_allclose(found.samples, truth, atol=1e-9, err_msg=f"{seed}")
    assert min(outcomes.values()) > len(seeds) / 10
