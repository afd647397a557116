"""EDF files as the standard and the wild write them: read as pyedflib reads them, or as they were written."""

from pathlib import Path

import numpy as np
import pyedflib
import pytest
from support.edf_writing import ECG, discontinuous, put, write

from ecg_jax.data.ecg import LEADS
from ecg_jax.data.lead_names import lead_order
from ecg_jax.data.real.datasets import any_folder
from ecg_jax.data.real.datasets.catalogue import LONGER, Entry, Output, checked, to_records
from ecg_jax.data.real.formats.edf import read_edf


def read(path: Path, unit: str = "mV") -> np.ndarray:
    raw = checked(any_folder.load(Entry("x/r", path, 0, 1, None)))
    (record,) = to_records([raw], Output(unit=unit))
    if isinstance(record, ValueError):
        raise record
    return record.astype(int)


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    return read(write(tmp_path_factory.mktemp("edf") / "r.edf"))


def test_samples_are_those_of_pyedflib(tmp_path):
    path = write(tmp_path / "r.edf")
    with pyedflib.EdfReader(str(path)) as file:
        theirs = np.stack([file.readSignal(k) for k in range(12)], axis=1)
    found = read_edf(path, lead_order)
    np.testing.assert_allclose(found.samples, theirs, atol=1e-12)
    assert found.rate_hz == 500


@pytest.mark.parametrize("value", ["Muster, Jos\u00e9", "\u03bc".encode() * 4, b"\xff\xfe\0\1", b"\0" * 80])
@pytest.mark.parametrize("field", ["patient", "recording"])
def test_whatever_a_name_holds(tmp_path, expected, field, value):
    np.testing.assert_array_equal(read(put(write(tmp_path / "r.edf"), field, value)), expected)


@pytest.mark.parametrize(
    ("field", "value"),
    [("time", "10:22:00"), ("time", "25.61.99"), ("time", ""), ("date", "00.00.00"), ("date", "2020-1-1"),
     ("date", "1/2/2003"), ("date", "yy"), ("records", "-1"), ("records", "0"), ("kind", "anything"),
     ("records", "10.0"), ("seconds", "1.000000"), ("seconds", "1,0"), ("seconds", "1e0"), ("kind", "EDF+C"),
     ("records", ""), ("seconds", "1e+000")],
)  # fmt: skip
def test_fields_on_which_no_sample_depends(tmp_path, expected, field, value):
    np.testing.assert_array_equal(read(put(write(tmp_path / "r.edf"), field, value)), expected)


@pytest.mark.parametrize(
    "unit", [b"uV", b"\xb5V", b"\xc2\xb5V", b"\xce\xbcV", b"\xe6V", b"microV", b"UV", b"uV\0\0", b"?V"]
)
def test_a_microvolt_in_any_encoding(tmp_path, unit):
    path = write(tmp_path / "r.edf")
    for k in range(12):
        put(put(put(path, "unit", unit, k), "physical minimum", "-5000", k), "physical maximum", "5000", k)
    np.testing.assert_array_equal(read(path), read(write(tmp_path / "mV.edf")))


@pytest.mark.parametrize(
    ("field", "value"),
    [("physical maximum", "-5"), ("digital maximum", "-32768"), ("physical minimum", ""), ("physical maximum", "high"),
     ("physical maximum", "5,000"), ("digital minimum", "?"), ("unit", ""), ("unit", "adu")],
)  # fmt: skip
def test_limits_that_tell_no_gain_leave_the_amplitude_unknown(tmp_path, field, value):
    path = put(write(tmp_path / "r.edf"), field, value, signal=3)
    with pytest.raises(ValueError, match=r"^(gain: 0 or none in r\.edf for aVR|unit: ).*: --unit NU takes"):
        read(path)
    np.testing.assert_allclose(read(path, "NU"), read(write(tmp_path / "known.edf"), "NU"), atol=2)


@pytest.mark.parametrize("value", ["5,0", " 5.0", "+5", "5e0", "5."])
def test_numbers_as_systems_write_them(tmp_path, expected, value):
    path = put(write(tmp_path / "r.edf"), "physical maximum", value, signal=11)
    np.testing.assert_array_equal(read(path), expected)


@pytest.mark.parametrize("named", ["ECG {}", "EKG-{}", "Lead {}", "{}-Ref", "ECG {}-Ref", "MDC_ECG_{}"])
def test_leads_under_the_names_of_other_systems(tmp_path, expected, named):
    path = write(tmp_path / "r.edf", ECG[:, ::-1], names=[named.format(lead)[:16] for lead in LEADS[::-1]])
    np.testing.assert_array_equal(read(path), expected)


@pytest.mark.parametrize("gap_after", [None, 10, 15])
def test_a_discontinuous_file_is_read_where_it_has_no_gap(tmp_path, expected, gap_after):
    """Its first ten seconds count."""
    np.testing.assert_array_equal(read(discontinuous(tmp_path / "r.edf", gap_after)), expected)


@pytest.mark.parametrize("gap_after", [1, 5, 9])
def test_a_gap_in_the_first_ten_seconds_is_told_of(tmp_path, gap_after):
    reason = rf"^discontinuous: data record {gap_after} of r.edf begins at {gap_after + 3} s, .* ends at {gap_after} s$"
    with pytest.raises(ValueError, match=reason):
        read(discontinuous(tmp_path / "r.edf", gap_after))


def test_a_discontinuous_file_must_tell_its_times(tmp_path):
    path = put(write(tmp_path / "r.edf"), "kind", "EDF+D")
    with pytest.raises(ValueError, match=r"^discontinuous: r\.edf is an EDF\+D without the times"):
        read(path)
    path = discontinuous(tmp_path / "s.edf", None)
    path.write_bytes(path.read_bytes().replace(b"+4\x14\x14", b"x4\x14\x14"))
    with pytest.raises(ValueError, match=r"^discontinuous: s\.edf does not tell when its data record 4 begins"):
        read(path)


def test_what_lies_beside_the_leads(tmp_path, expected):
    """A slow channel, one that was never used (its limits are equal), data records of a quarter of a second, and bytes
    after the end."""
    path = tmp_path / "r.edf"
    with pyedflib.EdfWriter(str(path), 13, file_type=pyedflib.FILETYPE_EDF) as file:
        file.setDatarecordDuration(0.25)
        same = {"transducer": "", "prefilter": "", "digital_max": 32767, "digital_min": -32768}
        lead = {"dimension": "mV", "sample_frequency": 500, "physical_max": 5.0, "physical_min": -5.0}
        slow = {"label": "SpO2", "dimension": "%", "sample_frequency": 4, "physical_max": 100.0, "physical_min": 0.0}
        file.setSignalHeaders([slow | same, *({"label": name, **lead, **same} for name in LEADS)])
        file.writeSamples([np.full(40, 97.0), *(np.ascontiguousarray(column) for column in ECG.T)])
    for field in ("physical maximum", "digital minimum", "digital maximum", "unit"):
        put(path, field, "0")
    path.write_bytes(path.read_bytes() + bytes(24))
    np.testing.assert_array_equal(read(path), expected)


def test_of_a_long_file_it_is_told_that_only_its_beginning_is_kept(tmp_path):
    long = any_folder.load(Entry("x/r", write(tmp_path / "r.edf", np.tile(ECG, (2, 1))), 0, 1, None))
    assert long.seconds == 20 and len(long.ecg_mv) == 5000 and checked(long).remarks == (LONGER,)
    assert checked(any_folder.load(Entry("x/r", write(tmp_path / "r.edf"), 0, 1, None))).remarks == ()


def test_a_gain_below_0_turns_a_lead_over(tmp_path):
    path = write(tmp_path / "r.edf", -ECG)
    for k in range(12):
        put(put(path, "physical minimum", "5", k), "physical maximum", "-5", k)
    np.testing.assert_allclose(read(path), read(write(tmp_path / "plain.edf")), atol=1)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [("records", "11", "truncated: r.edf announces '11' data records, 10 are there"),
     ("records", "many", "header: r.edf announces 'many' data records, expected a number"),
     ("records", "9", "too short: 9.00 s in r.edf"),
     ("seconds", "0", "header: r.edf: data records of 6000 samples and '0' s"),
     ("seconds", "0.3", "rate: 1666.6"),
     ("seconds", "1e-400", "header: r.edf: data records of 6000 samples and '1e-400' s"),
     ("seconds", "1e-99", "rate: "),
     ("physical maximum", "1e999", "gain: 0 or none in r.edf for I"),
     ("size", "3000", "unreadable: r.edf is no EDF file: its header of 3000 bytes has 12 signals"),
     ("size", "x", "unreadable: r.edf is no EDF file: the size of the header is 'x'"),
     ("digital minimum", "-40000", "header: r.edf: the digital limits of I are '-40000' to '32767'"),
     ("digital minimum", "0.5", "header: r.edf: the digital limits of I are '0.5' to '32767'"),
     ("digital maximum", "-32769", "header: r.edf: the digital limits of I are "),
     ("samples", "2x", "unreadable: r.edf is no EDF file: the samples of I is '2x'"),
     ("label", "II", "leads: I, II not there exactly once"),
     ("unit", "mmHg", "unit: 'mmHg', expected mV, uV or V")],
)  # fmt: skip
def test_a_field_that_cannot_be_used_is_named(tmp_path, field, value, reason):
    with pytest.raises(ValueError) as told:
        read(put(write(tmp_path / "r.edf"), field, value))
    assert str(told.value).startswith(reason)
    assert str(tmp_path) not in str(told.value)


@pytest.mark.parametrize("content", [b"", b"no EDF", b"\xffBIOSEMI" + bytes(4000), bytes(4000), b"0".ljust(256)])
def test_a_file_that_is_none_says_so(tmp_path, content):
    (tmp_path / "r.edf").write_bytes(content)
    with pytest.raises(ValueError, match=r"^unreadable: r\.edf is no EDF file: "):
        read(tmp_path / "r.edf")
