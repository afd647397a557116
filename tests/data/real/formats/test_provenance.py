"""What our own generator exported is never taken for a recording of a patient, wherever it lies."""

import shutil
from pathlib import Path

import pytest
import wfdb
from support.wfdb_folders import edf, made

from ecg_jax.data.real import build
from ecg_jax.data.real.datasets.catalogue import Output
from ecg_jax.data.real.datasets.registry import list_set
from ecg_jax.data.real.quality import report
from ecg_jax.data.synthetic.annotate.export import export
from ecg_jax.data.synthetic.render.tiers import Tier, recipe


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("synthetic") / "x"
    export(folder, Tier.VECTORS, recipe(Tier.VECTORS), records=2)
    return folder


@pytest.mark.parametrize("more", [[], ["--windows"]], ids=["12 leads", "windows"])
@pytest.mark.parametrize("name", ["hospital", "ludb"])
def test_an_export_is_no_real_set(exported, tmp_path, capsys, name, more):
    arguments = [name, "--source", str(exported), "--data-dir", str(tmp_path / "b"), "--workers", "1"]
    assert build.main([*arguments, *more]) == 2
    assert "2 of 2 recordings say that they are synthetic" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


def test_nor_is_it_reported_on_as_one(exported, tmp_path, capsys):
    assert report.main(["hospital", "--source", str(exported), "--out", str(tmp_path / "out")]) == 2
    assert "say that they are synthetic" in capsys.readouterr().err


def test_one_among_real_recordings_is_named(exported, tmp_path):
    for name in ("a", "b"):
        made(tmp_path / "ecg" / "ward", name)
    list_set("x", tmp_path / "ecg", Output())
    for path in exported.glob("synthetic_000001.*"):
        shutil.copy(path, tmp_path / "ecg" / "ward" / path.name)
    with pytest.raises(
        ValueError, match=r"1 of 3 recordings .* such as ward/synthetic_000001\.hea: they are of no patient"
    ):
        list_set("x", tmp_path / "ecg", Output())


def written_again(record: wfdb.Record, to: Path, comments: list[str], name: str = "r") -> None:
    to.mkdir()
    wfdb.wrsamp(
        name,
        record.fs,
        record.units,
        record.sig_name,
        p_signal=record.p_signal,
        fmt=record.fmt,
        comments=comments,
        write_dir=str(to),
    )


def test_other_tools_keep_what_tells_it(exported, tmp_path):
    record = wfdb.rdrecord(str(exported / "synthetic_000000"))
    written_again(record, tmp_path / "renamed", record.comments)
    written_again(record, tmp_path / "bare", [], "synthetic_000000")
    edf(tmp_path / "edf" / "r.edf", record.p_signal)
    (tmp_path / "edf" / "r.edf").rename(tmp_path / "edf" / "of_a_patient.edf")
    list_set("x", tmp_path / "edf", Output())
    content = bytearray((tmp_path / "edf" / "of_a_patient.edf").read_bytes())
    content[8 : 8 + 16] = b"synthetic_000000"  # where wfdb.io.convert.edf.wfdb_to_edf writes the record's name
    (tmp_path / "edf" / "of_a_patient.edf").write_bytes(content)
    for folder in ("renamed", "bare", "edf"):
        with pytest.raises(ValueError, match="1 of 1 recordings say that they are synthetic"):
            list_set("x", tmp_path / folder, Output())
