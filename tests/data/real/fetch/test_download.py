"""Downloads against a server on the loopback that drops, truncates, lies and hangs."""

import csv
import dataclasses
import hashlib
import io
import json
import socket
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.loopback import serving

from ecg_jax.data.real.fetch import download as downloads
from ecg_jax.data.real.fetch import resumable
from ecg_jax.data.real.fetch.archives import extract
from ecg_jax.data.real.fetch.publishers import PUBLICATIONS, Host, Publication
from ecg_jax.data.real.fetch.resumable import RemoteFile, TransferError, fetch, safe_path

CONTENT = bytes(range(256)) * 2000


@pytest.fixture
def publisher():
    with serving() as publisher:
        yield publisher


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch):
    monkeypatch.setattr(resumable, "LONGEST_WAIT_S", 0.01)


def remote(publisher, path="a.dat", content=CONTENT, **changes) -> RemoteFile:
    publisher.files[path] = content
    file = RemoteFile(path, f"{publisher.address}/{path}", ("sha256", hashlib.sha256(content).hexdigest()))
    return dataclasses.replace(file, **changes)


def left_over(folder) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# ---- one file --------------------------------------------------------------------------------------------------------


def test_a_broken_connection_is_resumed_where_it_broke(publisher, tmp_path):
    file = remote(publisher)
    publisher.faults["a.dat"] = ["drop", "drop", "drop"]
    fetch(file, tmp_path / "a.dat")
    assert (tmp_path / "a.dat").read_bytes() == CONTENT
    half, three, seven = len(CONTENT) // 2, len(CONTENT) * 3 // 4, len(CONTENT) * 7 // 8
    assert publisher.ranges == [("a.dat", f"bytes={start}-") for start in (half, three, seven)]
    assert left_over(tmp_path) == ["a.dat"]


def test_a_later_call_goes_on_where_an_earlier_one_gave_up(publisher, tmp_path):
    file = remote(publisher)
    publisher.faults["a.dat"] = ["drop", "503"]
    with pytest.raises(TransferError, match=r"503.*1 attempts in a row brought nothing. The same command goes on"):
        fetch(file, tmp_path / "a.dat", attempts=1)
    assert not (tmp_path / "a.dat").exists()
    fetch(file, tmp_path / "a.dat")
    assert (tmp_path / "a.dat").read_bytes() == CONTENT
    assert publisher.ranges[-1] == ("a.dat", f"bytes={len(CONTENT) // 2}-")


def test_a_server_without_range_is_read_from_the_start(publisher, tmp_path):
    file = remote(publisher)
    publisher.faults["a.dat"] = ["drop", "no range"]
    gained = []
    fetch(file, tmp_path / "a.dat", on_bytes=gained.append)
    assert (tmp_path / "a.dat").read_bytes() == CONTENT and sum(gained) == len(CONTENT)


def test_a_file_damaged_on_its_way_is_fetched_again(publisher, tmp_path):
    file = remote(publisher)
    publisher.faults["a.dat"] = ["flip"]
    gained = []
    fetch(file, tmp_path / "a.dat", on_bytes=gained.append)
    assert (tmp_path / "a.dat").read_bytes() == CONTENT and sum(gained) == len(CONTENT)


def test_a_wrong_checksum_is_refused_and_nothing_is_left(publisher, tmp_path):
    file = remote(publisher, digest=("sha256", "0" * 64))
    with pytest.raises(TransferError, match=r"a\.dat: sha256 is [0-9a-f]{64}, the publisher lists 0{64}, twice"):
        fetch(file, tmp_path / "a.dat")
    assert publisher.asked["a.dat"] == 2 and left_over(tmp_path) == []


def test_a_whole_part_of_a_killed_process_needs_no_byte_more(publisher, tmp_path):
    file = remote(publisher)
    (tmp_path / ".a.dat.part").write_bytes(CONTENT)
    fetch(file, tmp_path / "a.dat")
    assert left_over(tmp_path) == ["a.dat"] and (tmp_path / "a.dat").read_bytes() == CONTENT


@pytest.mark.parametrize("left", [CONTENT + b"more", b"x" * 1000])
def test_a_part_that_is_not_of_this_file_does_not_survive(left, publisher, tmp_path):
    file = remote(publisher)
    (tmp_path / ".a.dat.part").write_bytes(left)
    fetch(file, tmp_path / "a.dat")
    assert (tmp_path / "a.dat").read_bytes() == CONTENT


def test_what_is_whole_is_not_asked_for_again_and_what_is_not_is_replaced(publisher, tmp_path):
    file = remote(publisher)
    (tmp_path / "a.dat").write_bytes(CONTENT)
    fetch(file, tmp_path / "a.dat")
    assert not publisher.asked
    (tmp_path / "a.dat").write_bytes(CONTENT[:-1])
    fetch(file, tmp_path / "a.dat")
    assert (tmp_path / "a.dat").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("fault", "message"),
    [("403", "refuses access"), ("404", "answers 404"), ("elsewhere", "redirected to 'ftp://127.0.0.1/etc/passwd'")],
)
def test_what_no_further_try_can_help_ends_at_once(fault, message, publisher, tmp_path):
    file = remote(publisher)
    publisher.faults["a.dat"] = [fault]
    with pytest.raises(TransferError, match=message):
        fetch(file, tmp_path / "a.dat")
    assert publisher.asked["a.dat"] == 1


def test_a_server_that_falls_silent_counts_as_broken(publisher, tmp_path):
    file = remote(publisher)
    publisher.faults["a.dat"] = ["stall"]
    fetch(file, tmp_path / "a.dat", timeout_s=0.2)
    assert (tmp_path / "a.dat").read_bytes() == CONTENT


def test_more_bytes_than_listed_are_not_written_on(publisher, tmp_path):
    with pytest.raises(TransferError, match="more than the 1,000 bytes announced"):
        fetch(remote(publisher, size=1000), tmp_path / "a.dat")
    assert not (tmp_path / "a.dat").exists()


def test_nobody_there(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = f"http://127.0.0.1:{closed.getsockname()[1]}/a.dat"
    with pytest.raises(TransferError, match=r"no connection .*refused.*2 attempts"):
        fetch(RemoteFile("a.dat", address), tmp_path / "a.dat", attempts=2)


@pytest.mark.parametrize(
    "path", ["../a", "/etc/passwd", "a/../../b", "", ".", "C:/a", "a\\..\\b", "a\0b", "a\nb", "x" * 600]
)
def test_paths_from_a_server_stay_inside(path):
    with pytest.raises(ValueError, match="no plain path"):
        safe_path(path, "SHA256SUMS.txt")


# ---- a set -----------------------------------------------------------------------------------------------------------


def publish(publisher, records=5) -> Publication:
    """PTB-XL's layout with made-up content."""
    rows = [{"ecg_id": i, "filename_hr": f"records500/00000/{i:05d}_hr"} for i in range(1, records + 1)]
    table = io.StringIO()
    writer = csv.DictWriter(table, rows[0])
    writer.writeheader()
    writer.writerows(rows)
    files = {"LICENSE.txt": b"CC BY 4.0", "ptbxl_database.csv": table.getvalue().encode(), "scp_statements.csv": b"x"}
    for row in rows:
        files[row["filename_hr"] + ".hea"] = f"header {row['ecg_id']}".encode()
        files[row["filename_hr"] + ".dat"] = row["ecg_id"].to_bytes(4, "little") * 1000
        files[f"records100/00000/{row['ecg_id']:05d}_lr.dat"] = b"not wanted"
    sums = [f"{hashlib.sha256(content).hexdigest()} {path}" for path, content in files.items()]
    publisher.files |= {f"ptb-xl/{path}": content for path, content in files.items()}
    publisher.files["ptb-xl/SHA256SUMS.txt"] = "\n".join(sums).encode() + b"\n"
    return dataclasses.replace(PUBLICATIONS["ptbxl"], addresses=(f"{publisher.address}/ptb-xl",))


def command(monkeypatch, capsys, publication, *arguments) -> tuple[int, str, str]:
    monkeypatch.setattr(downloads, "PUBLICATIONS", PUBLICATIONS | {publication.name: publication})
    status = downloads.main([publication.name, *map(str, arguments)])
    return status, *capsys.readouterr()


def test_the_first_records_with_their_rows(publisher, tmp_path, monkeypatch, capsys):
    publication = publish(publisher)
    status, printed, _ = command(monkeypatch, capsys, publication, "--to", tmp_path / "set", "--records", 2)
    assert status == 0
    assert printed.index("Licence: Creative Commons") < printed.index("7 of 13 files")
    found = [path for path in left_over(tmp_path / "set") if "records" in path]
    assert found == [f"records500/00000/0000{i}_hr.{end}" for i in (1, 2) for end in ("dat", "hea")]
    rows = list(csv.DictReader((tmp_path / "set" / "ptbxl_database.csv").open()))
    assert [row["ecg_id"] for row in rows] == ["1", "2"] and "the 2 rows of 5" in printed
    assert not any("records100" in path for path in publisher.asked)


def test_a_larger_download_adds_to_a_smaller_one(publisher, tmp_path, monkeypatch, capsys):
    publication = publish(publisher)
    command(monkeypatch, capsys, publication, "--to", tmp_path, "--records", 2)
    status, *_ = command(monkeypatch, capsys, publication, "--to", tmp_path)
    assert (
        status == 0 and (tmp_path / "ptbxl_database.csv").read_bytes() == publisher.files["ptb-xl/ptbxl_database.csv"]
    )
    assert publisher.asked["ptb-xl/records500/00000/00001_hr.dat"] == 1
    assert len(left_over(tmp_path)) == 13


def test_drops_all_over_the_set_change_nothing(publisher, tmp_path, monkeypatch, capsys):
    publication = publish(publisher, records=20)
    publisher.faults = {path: ["drop", "503", "flip"] for path in publisher.files if path.endswith(".dat")}
    status, *_ = command(monkeypatch, capsys, publication, "--to", tmp_path)
    assert status == 0
    for path in left_over(tmp_path):
        assert (tmp_path / path).read_bytes() == publisher.files[f"ptb-xl/{path}"]


def test_one_damaged_file_stops_it_by_name(publisher, tmp_path, monkeypatch, capsys):
    publication = publish(publisher)
    publisher.files["ptb-xl/records500/00000/00003_hr.dat"] = b"other bytes"
    status, _, error = command(monkeypatch, capsys, publication, "--to", tmp_path)
    assert status == 2 and "00003_hr.dat: sha256 is" in error
    assert not (tmp_path / "records500/00000/00003_hr.dat").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0" * 64 + " ../../outside", "no plain path inside the set"),
        ("0" * 64 + " /etc/passwd", "no plain path inside the set"),
        ("<html>not here</html>", "is not a checksum and a path"),
    ],
)
def test_a_listing_of_another_shape_is_refused(line, message, publisher, tmp_path, monkeypatch, capsys):
    publication = publish(publisher)
    publisher.files["ptb-xl/SHA256SUMS.txt"] += line.encode()
    status, _, error = command(monkeypatch, capsys, publication, "--to", tmp_path / "set")
    assert status == 2 and message in error and "line 19" in error and left_over(tmp_path) == []


def test_gated_sets_are_explained_not_attempted(publisher, tmp_path, capsys):
    assert downloads.main(["heedb", "--to", str(tmp_path / "set")]) == 2
    assert "credentialed: make an account at https://bdsp.io" in capsys.readouterr().err
    assert not (tmp_path / "set").exists()


def test_every_set_has_a_licence_and_an_address():
    for name, publication in PUBLICATIONS.items():
        assert name.isidentifier() and name == publication.name  # TFDS must be able to open what is built under it
        assert publication.licence and publication.cite
        assert bool(publication.addresses) != bool(publication.gate)
        assert all(address.startswith("https://") for address in publication.addresses)


# ---- archives --------------------------------------------------------------------------------------------------------


def zipped(names) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name in names:
            archive.writestr(name, b"tracings" * 100)
    return made.getvalue()


def publish_archive(publisher, content: bytes, **changes) -> Publication:
    publisher.files |= {"files/exams.csv": b"exam_id\n1\n", "files/exams_part0.zip": content}
    entries = [
        {
            "key": path.removeprefix("files/"),
            "size": len(publisher.files[path]),
            "checksum": "md5:" + hashlib.md5(publisher.files[path]).hexdigest(),
            "links": {"self": f"{publisher.address}/{path}"},
        }
        | changes
        for path in ("files/exams.csv", "files/exams_part0.zip")
    ]
    publisher.files["api"] = json.dumps({"files": entries, "metadata": {"license": {"id": "cc-by-4.0"}}}).encode()
    return dataclasses.replace(PUBLICATIONS["code15"], addresses=(f"{publisher.address}/api",))


def test_an_archive_is_checked_taken_apart_and_not_fetched_twice(publisher, tmp_path, monkeypatch, capsys):
    publication = publish_archive(publisher, zipped(["exams_part0.hdf5"]))
    status, printed, _ = command(monkeypatch, capsys, publication, "--to", tmp_path)
    assert status == 0 and "Zenodo states the licence: cc-by-4.0" in printed
    assert (tmp_path / "exams_part0.hdf5").read_bytes() == b"tracings" * 100
    (tmp_path / "exams_part0.zip").unlink()
    assert command(monkeypatch, capsys, publication, "--to", tmp_path)[0] == 0
    assert publisher.asked["files/exams_part0.zip"] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"key": "../evil"}, "no plain path"),
        ({"checksum": "md5:abc"}, "not an MD5 sum"),
        ({"links": {}}, "not of the known shape"),
        ({"links": {"self": "file:///etc/passwd"}}, "which is not on the web"),
        ({"size": 10**18}, "make room"),
    ],
)
def test_a_record_of_another_shape_is_refused(changes, message, publisher, tmp_path, monkeypatch, capsys):
    publication = publish_archive(publisher, zipped(["a"]), **changes)
    status, _, error = command(monkeypatch, capsys, publication, "--to", tmp_path)
    assert status == 2 and message in error and left_over(tmp_path) == []


def test_archives_cannot_be_cut(publisher, tmp_path, monkeypatch, capsys):
    publication = publish_archive(publisher, zipped(["a"]))
    status, _, error = command(monkeypatch, capsys, publication, "--to", tmp_path, "--records", 5)
    assert status == 2 and "--records cannot cut them" in error


def test_figshare_articles_are_joined(publisher, tmp_path, monkeypatch, capsys):
    tar = io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        info = tarfile.TarInfo("records/A00001.h5")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"ecg!"))
    publisher.files |= {"m": b"ECG_ID\nA00001\n", "r": tar.getvalue()}
    for path, name in (("m", "metadata.csv"), ("r", "records.tar.gz")):  # a plain tar in spite of its name
        content = publisher.files[path]
        entry = {"name": name, "size": len(content), "computed_md5": hashlib.md5(content).hexdigest()}
        entry["download_url"] = f"{publisher.address}/{path}"
        publisher.files[f"article/{path}"] = json.dumps({"files": [entry], "license": {"name": "CC0"}}).encode()
    addresses = tuple(f"{publisher.address}/article/{path}" for path in "mr")
    publication = dataclasses.replace(PUBLICATIONS["sph"], addresses=addresses)
    status, printed, _ = command(monkeypatch, capsys, publication, "--to", tmp_path)
    assert status == 0 and "Figshare states the licence: CC0" in printed
    assert (tmp_path / "records" / "A00001.h5").read_bytes() == b"ecg!"


@pytest.mark.parametrize("name", ["../outside", "/outside", "a/../../outside"])
def test_a_zip_that_climbs_out_is_refused_whole(name, tmp_path):
    (tmp_path / "in").mkdir()
    archive = tmp_path / "in" / "a.zip"
    archive.write_bytes(zipped(["good", name]))
    with pytest.raises(ValueError, match="no plain path"):
        extract(archive, tmp_path / "in")
    assert left_over(tmp_path) == ["in/a.zip"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE])
def test_a_tar_with_links_or_devices_is_refused_whole(kind, tmp_path):
    archive = tmp_path / "a.tar"
    with tarfile.open(archive, "w") as made:
        info = tarfile.TarInfo("link")
        info.type, info.linkname = kind, "/etc/passwd"
        made.addfile(info)
    with pytest.raises(ValueError, match="is a link or a device"):
        extract(archive, tmp_path)
    assert left_over(tmp_path) == ["a.tar"]


def test_a_link_that_lies_in_the_folder_is_not_followed_out(tmp_path):
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (inside / "records").symlink_to(outside)
    archive = tmp_path / "a.zip"
    archive.write_bytes(zipped(["records/a"]))
    with pytest.raises(ValueError, match="would be written outside"):
        extract(archive, inside)
    assert left_over(outside) == []


def test_a_truncated_archive_says_so(tmp_path):
    archive = tmp_path / "a.zip"
    archive.write_bytes(zipped(["a"])[:-30])
    with pytest.raises(ValueError, match="is damaged, or no zip or tar archive"):
        extract(archive, tmp_path)


def test_hosts_are_all_served():
    assert {publication.host for publication in PUBLICATIONS.values()} == set(Host)


def test_two_downloads_into_one_folder_take_turns(publisher, tmp_path):
    publication = publish(publisher, records=20)
    with ThreadPoolExecutor(3) as pool:
        done = [pool.submit(downloads.download, publication, tmp_path / "set") for _ in range(3)]
        assert len({future.result() for future in done}) == 1
    assert all(publisher.asked[f"ptb-xl/records500/00000/{i:05d}_hr.dat"] == 1 for i in range(1, 21))
