"""WFDB recordings as the standard and the wild write them: read as `wfdb` reads them, or as they were written."""

import numpy as np
import pytest
import wfdb
from support.wfdb_writing import RATE_HZ, counts, lines, packed, write

from ecg_jax.data.ecg import LEADS
from ecg_jax.data.lead_names import lead_of, lead_order
from ecg_jax.data.real.datasets import any_folder
from ecg_jax.data.real.datasets.catalogue import Entry, Output, checked, to_records
from ecg_jax.data.real.formats.segments import read_wfdb
from ecg_jax.data.real.formats.wfdb_record import read_record

STEPS = counts()
FORMATS = ("8", "16", "24", "32", "61", "80", "160", "212", "310", "311")


def everything(names):
    return range(len(names))


def read(path, unit="mV"):
    """The record that a set would hold: int16 `(1000, 12)`. Raises ValueError with the reason, as a build tells it."""
    raw = checked(any_folder.load(Entry("x/r", path, 0, 1, None)))
    (record,) = to_records([raw], Output(unit=unit))
    if isinstance(record, ValueError):
        raise record
    return record.astype(int)


def plain(to, steps=STEPS, **fields):
    return write(to, lines(steps, **fields), {"r.dat": packed(steps, "16")})


def by_wfdb(path):
    return wfdb.rdrecord(str(path.with_suffix(""))).p_signal


@pytest.mark.parametrize("form", FORMATS)
def test_every_storage_format_to_the_last_step(tmp_path, form):
    steps = counts(limit=100) if form in ("8", "80") else STEPS
    path = write(tmp_path, lines(steps, forms=form), {"r.dat": packed(steps, form)})
    found = read_record(path, everything)
    np.testing.assert_array_equal(found.samples, steps / 200)
    np.testing.assert_array_equal(found.samples, by_wfdb(path))


@pytest.mark.parametrize("form", ["508", "516", "524"])
def test_compressed_formats(tmp_path, form):
    steps = counts(limit=100)[:, :8]
    wfdb.wrsamp("r", 500, ["mV"] * 8, list(LEADS[:8]), d_signal=steps, fmt=[form] * 8, adc_gain=[200.0] * 8,
                baseline=[0] * 8, write_dir=str(tmp_path))  # fmt: skip
    path = tmp_path / "r.hea"
    np.testing.assert_array_equal(read_record(path, everything).samples, steps / 200)
    path.write_text(path.read_text().replace("r 8 500 5000", "r 8 500"))
    np.testing.assert_array_equal(read_record(path, everything).samples, steps / 200)


def halves(**fields):
    """Two files of one recording: limb leads in format 16, chest leads in 24."""
    files, forms = ["limb.dat"] * 6 + ["chest.dat"] * 6, ["16"] * 6 + ["24"] * 6
    header = lines(STEPS, files=files, forms=forms, **fields)
    return header, {"limb.dat": packed(STEPS[:, :6], "16"), "chest.dat": packed(STEPS[:, 6:], "24")}


KINDS = {
    "gain with an exponent": (lines(STEPS, gains="2e2(0)/mV"), {}),
    "negative gain": (lines(STEPS, gains="-200(0)/mV"), {}),
    "baseline and zero": (lines(STEPS, gains="200(-7)/mV", zero="12"), {}),
    "zero without a baseline": (lines(STEPS, gains="200/mV", zero="12"), {}),
    "no unit": (lines(STEPS, gains="200"), {}),
    "counter frequency": (lines(STEPS, record="r 12 500/1000(17) 5000"), {}),
    "rate with a fraction of 0": (lines(STEPS, record="r 12 500.0 5000"), {}),
    "time and date": (lines(STEPS, record="r 12 500 5000 10:22:00 01/02/2003"), {}),
    "another record name": (lines(STEPS, record="other_name 12 500 5000"), {}),
    "byte offset": (lines(STEPS, forms="16+24"), {"r.dat": bytes(24) + packed(STEPS, "16")}),
    "one sample per frame, said": (lines(STEPS, forms="16x1+24"), {"r.dat": bytes(24) + packed(STEPS, "16")}),
    "no length": (lines(STEPS, record="r 12 500"), {}),
    "two files": halves(),
    "a name of several words": (lines(STEPS, names=[*LEADS[:11], "V6 of the chest"]), {}),
    "checksum below 0": (lines(STEPS, checksums=STEPS.sum(axis=0) % 65536 - 65536), {}),
    "comments and blank lines": (["# 1", "", *lines(STEPS)[:7], "   ", "# between", *lines(STEPS)[7:], "#last"], {}),
    "blanks and tabs": ([line.replace(" ", " \t ") + "   " for line in lines(STEPS)], {}),
}  # fmt: skip


@pytest.mark.parametrize("eol", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_header_that_wfdb_reads_is_read_alike(tmp_path, kind, eol):
    header, data = KINDS[kind]
    path = write(tmp_path, header, {"r.dat": packed(STEPS, "16")} | data, eol=eol)
    found, record = read_record(path, everything), wfdb.rdrecord(str(tmp_path / "r"))
    np.testing.assert_array_equal(found.samples, record.p_signal)
    assert found.rate_hz == record.fs and list(found.comments) == record.comments
    assert [signal.name for signal in found.signals] == [name.replace(" \t ", " ") for name in record.sig_name]


@pytest.mark.parametrize(
    "when",
    ["10:22:00 2006", "2014-05-08 05:05:15", "27/06/2027", "05-May-2020 09:49:17", "00:00:00.000 00/00/0000", "2006",
     "99:99:99 31/02/1999", "?", "20140508050515", "5/8/2014 5:05 PM", "10:22", "Mai 2006 \u00e4"],
)  # fmt: skip
@pytest.mark.parametrize("length", ["5000 ", "0 ", ""])
def test_no_date_loses_a_recording(tmp_path, when, length):
    if not length and when[:4].isdigit() and "-" not in when:
        return  # a whole number there is the length
    path = plain(tmp_path, record=f"r 12 500 {length}{when}")
    np.testing.assert_array_equal(read_record(path, everything).samples, STEPS / 200)


@pytest.mark.parametrize(
    ("unit", "encoding"),
    [("\u00b5V", "utf-8"), ("\u00b5V", "latin-1"), ("\u03bcV", "utf-8"), ("\u03bcV", "gb2312"),
     ("\u03bcV", "shift-jis"), ("\u00b5V", "cp437"), ("\u00b5v", "utf-8"), ("\u00c2\u00b5V", "utf-8"),
     ("uV", "ascii"), ("UV", "ascii"),
     ("microV", "ascii"), ("microvolts", "ascii"), ("\u03bcV", "big5"), ("\u03bcV", "euc-kr"), ("\u03bcV", "iso8859-7"),
     ("\u00b5V", "hp-roman8"), ("\u03bcV", "johab"), ("\u00b5Volt", "latin-1"), ("?V", "ascii"),
     ("??V", "ascii"), ("\ufffdV", "utf-8"), ("\u043c\u043a\u0412", "utf-8"), ("\u33b6", "utf-8")],
)  # fmt: skip
def test_a_microvolt_in_any_encoding(tmp_path, unit, encoding):
    header = [*lines(STEPS, gains=f"1(0)/{unit}"), "# Jos\u00e9"]
    path = write(tmp_path, header[:-1], {"r.dat": packed(STEPS, "16")}, encoding=encoding)
    expected = read(plain(tmp_path / "mV", gains="1000(0)/mV"))
    np.testing.assert_allclose(read(path), expected, atol=1)
    path.write_bytes(path.read_bytes() + "# Jos\u00e9\n".encode("latin-1"))  # and a line in another encoding
    np.testing.assert_allclose(read(path), expected, atol=1)


@pytest.mark.parametrize(
    "gain", ["0", "0(0)/mV", "-0/mV", "0.0(12)/uV", "(0)/mV", "/mV", "nan/mV", "inf(0)/mV", "200(0)/adu"]
)
def test_a_gain_that_is_none_leaves_the_amplitude_unknown(tmp_path, gain):
    path = plain(tmp_path, gains=["200(0)/mV"] * 11 + [gain])
    with pytest.raises(
        ValueError, match=r"^(gain: 0 or none in r.hea for V6|unit: 'adu').*amplitude is unknown: --unit NU"
    ):
        read(path)
    np.testing.assert_allclose(read(path, "NU"), read(plain(tmp_path / "known"), "NU"), atol=2)


def test_a_line_that_leaves_out_the_gain_alone(tmp_path):
    """What follows would pass for a gain of 16, and the checksum for one that is not stated."""
    path = plain(tmp_path, gains=["200(0)/mV"] * 11 + [""])
    with pytest.raises(ValueError, match=r"^gain: 0 or none in r\.hea for V6; the amplitude is unknown"):
        read(path)
    np.testing.assert_allclose(read(path, "NU"), read(plain(tmp_path / "known"), "NU"), atol=2)


def test_without_gain_and_all_that_follows(tmp_path):
    header = ["r 12 500", *(f"r.dat 16 {lead}" for lead in LEADS)]
    path = write(tmp_path, header, {"r.dat": packed(STEPS, "16")})
    with pytest.raises(ValueError, match=r"^gain: 0 or none in r\.hea for I, II, III, aVR"):
        read(path)
    np.testing.assert_allclose(read(path, "NU"), read(plain(tmp_path / "known"), "NU"), atol=1)


@pytest.mark.parametrize("unit", ["mV", "NU"])
@pytest.mark.parametrize("gain", ["200(0)/mmHg", "4880(0)/mV"])
def test_what_is_no_voltage_or_known_to_be_wrong_is_refused_in_any_unit(tmp_path, gain, unit):
    with pytest.raises(ValueError, match=r"^(unit: 'mmHg'|gain: 4880)"):
        read(plain(tmp_path, gains=gain), unit)


def skewed(steps, skews):
    """The file of a recording whose leads lag by so many frames: each begins with its first value, repeated."""
    return np.stack([np.concatenate((np.full(lag, x[0]), x[: len(x) - lag])) for x, lag in zip(steps.T, skews)], axis=1)


def test_one_skew_of_several_leads_as_wfdb_aligns_it(tmp_path):
    path = plain(tmp_path, forms=["16"] * 10 + ["16:30"] * 2)
    np.testing.assert_array_equal(read_record(path, everything).samples, by_wfdb(path))


def test_skewed_leads_are_aligned(tmp_path):
    steps, skews = counts(samples=6000), [0] * 9 + [1, 3, 40]
    held = skewed(steps, skews)
    path = write(tmp_path, lines(held, forms=[f"16:{lag}" for lag in skews]), {"r.dat": packed(held, "16")})
    found = read_record(path, everything).samples
    np.testing.assert_array_equal(found[:5960], steps[:5960] / 200)
    assert np.isnan(found[5960:, 11]).all() and np.isfinite(found[:, :11]).all()  # further than is continued
    np.testing.assert_array_equal(read(path), read(plain(tmp_path / "plain", steps)))


def test_a_skewed_recording_of_ten_seconds_is_continued_by_its_few_last_samples(tmp_path):
    skews = [0] * 10 + [3, 5]
    held = skewed(STEPS, skews)
    path = write(tmp_path, lines(held, forms=[f"16:{lag}" for lag in skews]), {"r.dat": packed(held, "16")})
    found = read_record(path, everything).samples
    np.testing.assert_array_equal(found[:4995], STEPS[:4995] / 200)
    assert np.abs(found - STEPS / 200)[4995:].max() < 0.3  # of 2.5
    path.write_text(path.read_text().replace("16:5", "16:6"))
    with pytest.raises(ValueError, match=r"^missing samples: V6 \(6\)"):
        read(path)


def test_several_samples_per_frame_are_read_at_their_own_rate(tmp_path):
    frames = STEPS.reshape(2500, 2, 12).transpose(0, 2, 1)
    path = write(tmp_path, lines(STEPS, record="r 12 250 2500", forms="16x2"), {"r.dat": packed(frames, "16")})
    found = read_record(path, everything)
    assert found.rate_hz == RATE_HZ
    np.testing.assert_array_equal(found.samples, STEPS / 200)
    np.testing.assert_array_equal(read(path), read(plain(tmp_path / "plain")))


def test_frames_of_one_sample_written_twice_hold_one(tmp_path):
    twice = np.repeat(STEPS[:, :, None], 2, axis=2)
    path = write(tmp_path, lines(STEPS, forms="16x2", checksums=2 * STEPS.sum(axis=0)), {"r.dat": packed(twice, "16")})
    assert read_record(path, everything).rate_hz == RATE_HZ
    np.testing.assert_array_equal(read(path), read(plain(tmp_path / "plain")))


def test_leads_of_different_samples_per_frame_are_averaged_over_each_frame(tmp_path):
    fine = np.stack((STEPS[:, 11] - 4, STEPS[:, 11] + 4), axis=1)
    held = np.concatenate((STEPS[:, :11], fine), axis=1)
    sums = [*STEPS[:, :11].sum(axis=0), fine.sum()]
    path = write(tmp_path, lines(STEPS, forms=["16"] * 11 + ["16x2"], checksums=sums), {"r.dat": packed(held, "16")})
    np.testing.assert_allclose(read_record(path, everything).samples, by_wfdb(path), atol=1e-12)
    held[7, 11] = -32768
    sums[11] += -32768 - fine[7, 0]
    path = write(tmp_path, lines(STEPS, forms=["16"] * 11 + ["16x2"], checksums=sums), {"r.dat": packed(held, "16")})
    with pytest.raises(ValueError, match=r"^missing samples: V6 \(1\)"):  # and no average with what stands for it
        read(path)


def test_checksums_are_compared_where_they_are_stated(tmp_path):
    content = bytearray(packed(STEPS, "16"))
    content[1000 * 24 + 4] ^= 4  # of lead III
    for name, sums, reason in (
        ("stated", None, "damaged: checksum of lead III"),
        ("none", [0] * 12, None),
        ("others", [0, 0, *STEPS.sum(axis=0)[2:]], "damaged: checksum of lead III"),
    ):
        path = write(tmp_path / name, lines(STEPS, checksums=sums), {"r.dat": bytes(content)})
        if reason is None:
            assert np.isfinite(read_record(path, everything).samples).all()
        else:
            with pytest.raises(ValueError, match=reason):
                read(path)


@pytest.mark.parametrize("change", ["skew", "frames"])
def test_a_flipped_bit_is_found_whatever_the_header_does_to_the_samples(tmp_path, change):
    forms, record = ("16:3", None) if change == "skew" else ("16x2", "r 12 250 2500")
    held = STEPS if change == "skew" else STEPS.reshape(2500, 2, 12).transpose(0, 2, 1)
    path = write(tmp_path, lines(STEPS, forms=forms, record=record), {"r.dat": packed(held, "16")})
    read(path)
    content = bytearray(packed(held, "16"))
    content[2] ^= 1  # among what a skew takes away
    (tmp_path / "r.dat").write_bytes(content)
    with pytest.raises(ValueError, match=r"^damaged: checksum of lead"):
        read(path)


@pytest.mark.parametrize("length", ["0", "", "0 10:22:00"])
def test_a_length_that_is_not_stated_is_all_there_is(tmp_path, length):
    header, data = halves(record=f"r 12 500 {length}")
    path = write(tmp_path, header, data)
    np.testing.assert_array_equal(read_record(path, everything).samples, STEPS / 200)
    (tmp_path / "chest.dat").write_bytes(data["chest.dat"][:-18])
    with pytest.raises(
        ValueError, match=r"^truncated: r.hea states no length, and its files hold \[4999, 5000\] frames"
    ):
        read(path)


@pytest.mark.parametrize(
    ("header", "signals"), [("R.HEA", "R.DAT"), ("r.hea", "r.DAT"), ("R.hea", "R.dat"), ("r.HEA", "r.dat")]
)
def test_names_in_another_case(tmp_path, header, signals):
    made = plain(tmp_path / "made")
    (tmp_path / "a").mkdir()
    made.rename(tmp_path / "a" / header)
    (tmp_path / "made" / "r.dat").rename(tmp_path / "a" / signals)
    (found,) = any_folder.find_recordings(tmp_path / "a").values()
    np.testing.assert_array_equal(read_record(found, everything).samples, STEPS / 200)


def test_a_mark_at_the_beginning_and_any_character_in_a_comment(tmp_path):
    """Latin-1 reads the "…" of Windows as the end of a line; it is none."""
    path = plain(tmp_path)
    header = path.read_bytes()
    for before in (b"\xef\xbb\xbf", b"\xef\xbb\xbf# a/b\n", b"# wait \x85 1/2 hour\r"):
        path.write_bytes(before + header)
        np.testing.assert_array_equal(read_wfdb(path, everything).samples, STEPS / 200)


def test_signals_may_be_named_from_here(tmp_path):
    path = plain(tmp_path, files="./r.dat")
    np.testing.assert_array_equal(read_record(path, everything).samples, STEPS / 200)


@pytest.mark.parametrize(
    ("name", "lead"),
    [("aV R", "aVR"), ("a-VL", "aVL"), ("V 1", "V1"), ("V-6", "V6"), ("DII", "II"), ("\u2162", "III"),
     ("Lead aVR, augmented voltage, right", "aVR"), ("ECG-aVF", "aVF"),
     ("Lead -aVR", None), ("ECG - -V1", None), ("MLII", None), ("V1-V2", None), ("I II", None), ("V7", None),
     ("V1R", None), ("ECG 1", None), ("ECG", None), ("", None), ("I (mmHg)", None), ("IV", None), ("CM5", None)],
)  # fmt: skip
def test_what_is_a_lead_and_what_is_none(name, lead):
    assert lead_of(name) == lead


def test_what_systems_leave_beside_files_is_no_recording(tmp_path):
    plain(tmp_path)
    for hidden in (".ipynb_checkpoints", ".Trash-0/files", ".git"):
        plain(tmp_path / hidden)
    for name in ("._r.hea", "._r.dat", "._s.edf"):
        (tmp_path / name).write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X        " + bytes(60))
    assert list(any_folder.find_recordings(tmp_path)) == ["r"]
    assert list(any_folder.find_recordings(tmp_path / ".git")) == ["r"]


@pytest.mark.parametrize(
    "write_name",
    ["ECG {}", "Lead {}", "{}-Ref", "MDC_ECG_LEAD_{}", " {} ", "ekg_{}", "ECG Lead {}", "ECG{}", "Lead: {}", "{} (mV)",
     "{} [\u00b5V]", "Channel {}", "{}_ECG", "ECG - {}", "ECG {}/Ref", "{}.", '"{}"'],
)  # fmt: skip
@pytest.mark.parametrize("case", [str, str.upper, str.lower])
def test_leads_under_the_names_of_other_systems(tmp_path, write_name, case):
    order = [11, 3, 0, *range(1, 3), *range(4, 11)]
    names = [write_name.format(case(LEADS[k])) for k in order]
    path = plain(tmp_path, STEPS[:, order], names=names)
    np.testing.assert_array_equal(read_record(path, lead_order).samples, STEPS / 200)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda h: ["", "# nothing"], "header: r.hea is empty"),
        (lambda h: ["r 0 500 5000"], "header: r.hea describes no signals"),
        (lambda h: ["r/3 12 500 5000", *h[1:]], "header: r.hea announces 3 segments, 12 lines name some"),
        (lambda h: ["r/x 12 500 5000", *h[1:]], "no WFDB header: line 1: the number of segments"),
        (lambda h: ["r x 500 5000", *h[1:]], "no WFDB header: line 1: the number of leads is 'x'"),
        (lambda h: ["r 12 fast 5000", *h[1:]], "no WFDB header: line 1: the sampling rate is 'fast'"),
        (lambda h: ["r 12 500 -5000", *h[1:]], "no WFDB header: line 1: the number of samples is '-5000'"),
        (lambda h: ["r 12 500 5000.5", *h[1:]], "no WFDB header: line 1: the number of samples"),
        (lambda h: h[:-1], "no WFDB header: line 1 announces 12 leads, 11 lines describe some"),
        (lambda h: [*h, h[-1]], "no WFDB header: line 1 announces 12 leads, 13 lines"),
        (lambda h: [h[0], h[1].replace(" 16 2", " x 2"), *h[2:]], "no WFDB header: line 2: the storage"),
        (lambda h: [h[0], h[1].replace(" 16 2", " 16x0 2"), *h[2:]], "no WFDB header: line 2: '16x0' holds"),
        (lambda h: [h[0], h[1].replace(" 16 2", " 16:-3 2"), *h[2:]], "no WFDB header: line 2: '16:-3'"),
        (lambda h: [h[0], h[1].replace("200(", "1,5("), *h[2:]], r"no WFDB header: line 2: the gain is '1,5"),
        (lambda h: [h[0], h[1].replace("(0)", "(x)"), *h[2:]], "no WFDB header: line 2: the baseline is 'x'"),
        (lambda h: [line.replace(" 16 2", " 99 2") for line in h], "header: r.hea: 99 is no storage format"),
        (lambda h: [h[0], h[1].replace(" 16 2", " 212 2"), *h[2:]], "header: r.hea gives r.dat the formats"),
        (lambda h: [h[0], h[1].replace(" 16 2", " 16+8 2"), h[2].replace(" 16 2", " 16+9 2"), *h[3:]], "r.hea gives"),
        (lambda h: [*h[:3], h[3].replace("r.dat", "s.dat"), *h[4:]], "the leads of r.dat are not on lines"),
        (lambda h: [*h[:12], h[12].removesuffix(" V6")], "header: r.hea does not name lead 12"),
        (lambda h: [line.replace("r.dat", "/etc/r.dat") for line in h], "r.hea names '/etc/r.dat' as its signals"),
        (lambda h: [line.replace("r.dat", "C:r.dat") for line in h], "header: r.hea names 'C:r.dat' as its signals"),
        (lambda h: [line.replace("r.dat", "link.dat") for line in h], "r.hea names 'link.dat', which is a link"),
        (lambda h: [*h[:12], h[12].replace("V6", "Lead V5")], "leads: V5, V6 not there exactly once"),
        (lambda h: [*h[:12], h[12].replace("V6", "-V6")], "leads: V6 not there exactly once"),
        (lambda h: [*h[:12], h[12].replace("V6", "Lead -V6")], "leads: V6 not there exactly once"),
        (lambda h: [h[0], h[1].replace(" 16 0 ", f" {'9' * 400} 0 "), *h[2:]], "leads: I not there exactly once"),
        (lambda h: [h[0], h[1].replace(" 16 2", f" 16+{'9' * 5000} 2"), *h[2:]], "line 2: the storage format is '16+9"),
        (lambda h: ["r 13 500 5000", *h[1:], h[1].replace(" I", " Lead I")], "leads: I not there exactly once"),
    ],
)  # fmt: skip
def test_a_header_that_cannot_be_used_says_which_field(tmp_path, change, reason):
    path = write(tmp_path, change(lines(STEPS)), {"r.dat": packed(STEPS, "16"), "s.dat": packed(STEPS, "16")})
    (tmp_path / "link.dat").symlink_to(tmp_path / "r.dat")
    with pytest.raises(ValueError) as told:
        read(path)
    assert reason in str(told.value)
    assert str(tmp_path) not in str(told.value) and "\n" not in str(told.value)


def test_signals_that_nobody_asks_for_may_be_of_any_kind(tmp_path):
    """A pressure in a file of its own, of another length, without a unit that is a voltage."""
    header = lines(STEPS, record="r 13 500 5000")
    path = write(tmp_path, [*header, "p.dat 99 0/mmHg 16 0 0 1 0 ABP"], {"r.dat": packed(STEPS, "16")})
    np.testing.assert_array_equal(read(path), read(plain(tmp_path / "plain")))


@pytest.mark.parametrize(
    ("off", "reason"),
    [(slice(0, 2400), None), (slice(0, 2600), "flat lead: V3 (52% of its samples)"),
     (slice(1000, 4900), "flat lead: V3 (78%"), (slice(0, 5000), "flat lead: V3 (all samples 0.135)")],
)  # fmt: skip
@pytest.mark.parametrize("value", [27, 2047])
def test_an_electrode_that_is_off_for_most_of_a_record(tmp_path, off, reason, value):
    steps = STEPS.copy()
    steps[off, 8] = value
    path = plain(tmp_path, steps)
    if reason is None:
        read(path)
    else:
        with pytest.raises(ValueError) as told:
            read(path)
        assert str(told.value).startswith(reason.replace("0.135", f"{value / 200:g}"))


def test_an_electrode_that_drops_out_again_and_again(tmp_path):
    steps = STEPS.copy()
    steps.reshape(10, 500, 12)[:, :300, 1] = -31  # 0.6 s of each second
    with pytest.raises(ValueError, match=r"^flat lead: II \(60% of its samples\)$"):
        read(plain(tmp_path, steps))


def test_coarse_steps_are_no_electrode_that_is_off(tmp_path):
    """An ECG of few steps stays on one of them between its beats, for less than half a second each time."""
    steps = STEPS.copy()
    steps.reshape(25, 200, 12)[:, :180, 1] = 3  # 0.36 s of each 0.4 s
    read(plain(tmp_path, steps))
