"""What the command line says to wrong words, strange files and unusable outputs, and how it ends when it is stopped."""

import json
import runpy
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pandas as pd
import pytest
from support.exported_tables import exported

from scaling_fits.__main__ import main
from scaling_fits.estimation.columns import Columns
from scaling_fits.estimation.multistart import Search
from scaling_fits.estimation.suspicions import compute_notes
from scaling_fits.files import MADE_BY
from scaling_fits.fit import fit
from scaling_fits.laws.size_and_data import power_law
from scaling_fits.tables.run_table import EXPORTED, read_runs

QUICK = ["--law", "power_law_N", "--n", "params", "--estimator", "squares", "--replicates", "0", "--quiet"]


def runs(count: int = 16) -> pd.DataFrame:
    n = np.geomspace(1e5, 1e9, count)
    loss = (0.5 + 40 / n**0.3) * np.exp(np.random.default_rng(0).normal(0, 0.01, count))
    return pd.DataFrame({"params": n, "loss": loss.round(6)})


@pytest.fixture
def table(tmp_path):
    runs().to_csv(tmp_path / "runs.csv", index=False)
    return tmp_path / "runs.csv"


def refused(capsys, words) -> str:
    """The one line that a command ends with."""
    assert main([str(word) for word in words]) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.startswith("error: ") and said.err.count("\n") == 1
    return said.err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--n", "param"], ["'param'", "did you mean 'params'?", "['loss', 'params']"]),
        (["--loss", "los"], ["'los'", "did you mean 'loss'?"]),
        (["--trunk", "trnk"], ["missing columns ['trnk']"]),
        (["--weight", "w"], ["missing columns ['w']"]),
        (["--where", "parms=3"], ["'parms'", "did you mean 'params'?"]),
        (["--where", "params=3"], ["no row with params = '3'", "holds 100000, "]),
        (["--where", "params=big"], ["column 'params' holds numbers"]),
        (["--where", "params"], ["--where 'params' must read COLUMN=VALUE"]),
        (["--law", "chinchila"], ["no law 'chinchila'", "did you mean 'chinchilla'?"]),
        (["--trunc", "x"], ["--trunc", "did you mean '--trunk'?"]),
        (["--estimator", "square"], ["--estimator", "did you mean 'squares'?"]),
        (["--estimator", "huber", "--tau", "0.3"], ["--tau 0.3"]),
        (["--d", "params"], ["--d params"]),
        (["--column", "D=params"], ["--column 'D=params'", "N"]),
        (["--fix", "alfa=1"], ["'alfa'", "did you mean 'alpha'?"]),
        (["--fix", "alpha=x"], ["--fix 'alpha=x'"]),
        (["--fix", "alpha=.3", "--fix", "alpha=.4"], ["--fix 'alpha=.4'", "given twice"]),
        (["--fix", "alpha=-1"], ["alpha", "-1", "0 <= alpha <= 10"]),
        (["--loss", "params"], ["'params' is both the loss and a variable"]),
        (["--replicates", "1"], ["--replicates", "not 1"]),
        (["--seed", "-1"], ["--seed", "not -1"]),
        (["--delta", "nan"], ["--delta", "not nan"]),
        (["--fresh"], ["--fresh", "runs.csv"]),
        (["--out", "."], ["--out ."]),
        (["--out", "nowhere/x.json"], ["--out nowhere/x.json", "no folder nowhere"]),
        (["--latex", "nowhere/x.tex"], ["--latex nowhere/x.tex"]),
    ],
)
def test_what_is_mistaken_is_named_in_one_line_with_what_was_meant(words, named, table, capsys):
    said = refused(capsys, ["fit", table, *QUICK, *words])
    assert all(name in said for name in named), said


def test_outputs_are_checked_before_any_work(table, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("scaling_fits.commands.fitting.fit_observations", None)  # would be a TypeError
    (tmp_path / "file").write_text("")
    for words in (["--out", tmp_path], ["--out", tmp_path / "file" / "x"], ["--latex", "/proc/none/x.tex"]):
        assert str(words[1]) in refused(capsys, ["fit", table, *QUICK, *words])
    assert "there" not in refused(capsys, ["plot", table, *QUICK, "--figure", tmp_path / "file" / "x"])


def test_only_files_of_its_own_are_written_over(table, capsys, tmp_path):
    notes, figure = tmp_path / "notes.json", tmp_path / "new" / "figure"
    notes.write_text('{"mine": 1}')
    said = refused(capsys, ["fit", table, *QUICK, "--out", notes])
    assert "notes.json" in said and "--force" in said and notes.read_text() == '{"mine": 1}'
    for _ in range(2):
        assert main(["fit", str(table), *QUICK, "--out", str(notes), "--force"]) == 0
    assert json.loads(notes.read_text())["made_by"] == MADE_BY
    assert main(["fit", str(table), *QUICK, "--out", str(notes), "--latex", str(tmp_path / "x.tex")]) == 0
    for _ in range(2):
        assert main(["plot", str(table), *QUICK, "--figure", str(figure)]) == 0
    assert f"made the folder {figure.parent}" in capsys.readouterr().out
    for end in ("pdf", "png"):
        assert MADE_BY.encode() in figure.with_suffix(f".{end}").read_bytes()
        (tmp_path / f"theirs.{end}").write_bytes(b"theirs")
    (tmp_path / "data.csv").write_text("theirs")
    for stem in ("theirs", "data"):
        assert f"{stem}." in refused(capsys, ["plot", table, *QUICK, "--figure", tmp_path / stem])
    assert (tmp_path / "theirs.png").read_bytes() == b"theirs" and (tmp_path / "data.csv").read_text() == "theirs"


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", ["runs.csv", "is empty"]),
        (b"\n \n", ["runs.csv", "is empty"]),
        (b"params,loss\n", ["runs.csv", "no rows"]),
        ("params,loss\n1,2\n".encode("utf-16"), ["runs.csv", "UTF-16"]),
        ("params,loss\n1,2\n".encode("utf-32"), ["runs.csv", "UTF-32"]),
        (b"params,loss\n1,2\n3,\xe9\n", ["runs.csv, line 3", "0xe9"]),
        (b"params,loss\n1,\0\n", ["runs.csv, line 2", "zero byte"]),
        (b"params,loss,loss\n1,2,3\n", ["runs.csv", "two columns named 'loss'"]),
        (b"params,loss, loss\n1,2,3\n", ["runs.csv", "two columns named 'loss'"]),
        (b"params,loss\n1,2\n3\n", ["runs.csv, line 3", "1 fields"]),
        (b"params,loss\n1,2,3\n", ["runs.csv, line 2", "3 fields"]),
        (b'params,loss\n1,"2\n', ["runs.csv, line 2"]),
        (b"# mine\nparams,loss\n1,2\n", ["runs.csv, line 2", "the header is the first line, here '# mine'"]),
        (b"params|loss\n1|2\n", ["one column, 'params|loss'", "not by bars"]),
        (b"| params | loss |\n|---|---|\n| 1 | 2 |\n", ["one column", "not by bars"]),
        (b"params loss\n1 2\n", ["one column, 'params loss'", "not by blanks"]),
        (b'params,loss\n"1,000,000",2\n', ["row 0 with '1,000,000'", "like 1000000"]),
        (b"params;loss\n1.000.000;2,5\n", ["row 0 with '1.000.000'", "like 1000000"]),
        (b"params,loss\n2_000,2\n", ["'2_000'", "like 2000"]),
        (b"params,loss\n20M,2\n", ["'20M'", "without a unit (M)"]),
        (b"params,loss\n20,2.5 %\n", ["'2.5 %'", "without a unit (%)"]),
        (b"params,loss\n20,-\n", ["'-'", "leave cells without a number empty"]),
        (b"params;loss\n1,5;2.5\n", ["runs.csv", "decimal commas (1,5)"]),
        (b'params,loss\n1,"2,5"\n2,"3,5"\n', ["'loss' must hold numbers", "decimal point"]),
    ],
)
def test_a_file_that_is_no_sound_csv_is_named_with_its_line(content, named, tmp_path, capsys):
    (tmp_path / "runs.csv").write_bytes(content)
    said = refused(capsys, ["fit", tmp_path / "runs.csv", *QUICK])
    assert all(name in said for name in named), said


def test_folders_and_files_that_are_not_there_or_not_ours_to_read_are_named(tmp_path, capsys, monkeypatch):
    assert str(tmp_path) in refused(capsys, ["fit", tmp_path, *QUICK])
    assert "none.csv" in refused(capsys, ["fit", tmp_path / "none.csv", *QUICK])
    (tmp_path / "runs.csv").write_text("params,loss\n1,2\n")

    def forbidden(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.read_bytes", forbidden)
    assert "runs.csv: cannot be read (Permission denied)" in refused(capsys, ["fit", tmp_path / "runs.csv", *QUICK])


@pytest.mark.parametrize("style", ["blanks", "semicolons", "tabs", "byte order mark", "old line ends", "unnamed index"])
def test_a_table_written_another_way_is_read_the_same(style, tmp_path):
    frame, path = runs(), tmp_path / "runs.csv"
    match style:
        case "blanks":
            path.write_text(frame.rename(columns={"params": " params", "loss": " loss "}).to_csv(index=False))
        case "semicolons":
            frame.to_csv(path, index=False, sep=";", decimal=",")
        case "tabs":
            frame.to_csv(path, index=False, sep="\t", decimal=",")
        case "old line ends":
            path.write_bytes(frame.to_csv(index=False).replace("\n", "\r").encode())
        case "byte order mark":
            frame.to_csv(path, index=False, encoding="utf-8-sig")
        case _:
            frame.to_csv(path)
    table = read_runs(path, positive=["params"])
    pd.testing.assert_frame_equal(table.rows[["params", "loss"]].sort_index(), frame)
    separated = {"semicolons": ["';', with decimal commas"], "tabs": ["a tab, with decimal commas"]}
    assert [note.partition("separated by ")[2] for note in table.notes] == separated.get(style, [])


@pytest.mark.parametrize(
    ("column", "values", "wanted", "rows"),
    [
        ("seed", [1000001, 1000006], "1000001", 1),
        ("seed", [2**62, 2**62 + 1], str(2**62 + 1), 1),
        ("lr", [1e-9, 2e-9], "1e-9", 1),
        ("lr", [0.1 + 0.2, 0.3], "0.3", 2),  # one number, but for rounding
        ("size", [1000000000, 1000000100], "1e9", 1),
        ("tier", ["T1d", "t1d"], "T1d", 1),
        ("name", ["0707", "707"], "0707", 1),
        ("flag", [True, False], "true", 1),
        ("flag", [True, False], "0", 1),
        ("share", [0.0, 0.5], "0", 1),
    ],
)
def test_where_keeps_equal_values_and_no_others(column, values, wanted, rows):
    frame = pd.DataFrame({"loss": [0.5, 0.6], column: values})
    assert len(read_runs(frame).where(**{column: wanted}).rows) == rows


def test_digits_that_begin_with_zero_are_names_in_a_file(tmp_path):
    path = tmp_path / "runs.csv"
    path.write_text("loss,run,flag\n0.5,001,True\n0.6,1,False\n0.7,02,True\n")
    table = read_runs(path)
    kept = {wanted: list(table.where(run=wanted).rows["loss"]) for wanted in ("001", "1", "2")}
    assert kept == {"001": [0.5], "1": [0.6], "2": [0.7]}
    with pytest.raises(ValueError, match="column 'flag' holds 'False', 'True'"):
        table.where(flag="yes")


def test_how_a_file_is_separated_is_a_note_and_no_warning(tmp_path, capsys):
    runs().to_csv(tmp_path / "runs.csv", index=False, sep=";")
    assert main(["fit", str(tmp_path / "runs.csv"), *QUICK, "--out", str(tmp_path / "x.json")]) == 0
    said, written = capsys.readouterr().out, json.loads((tmp_path / "x.json").read_text())
    assert "note: runs.csv is separated by ';'" in said and "WARNING" not in said
    assert written["data"]["reading"] == ["runs.csv is separated by ';'"] and written["warnings"] == []


@pytest.mark.parametrize("said", [False, 0, "no", "False", "", np.nan])
def test_an_exclusion_that_says_no_leaves_no_row_out(said):
    assert read_runs(exported(runs()).assign(exclusion=said)).excluded == {}


def test_names_mean_something_in_exported_tables_alone():
    foreign = runs().assign(exclusion="bad", diverged=True, pre_transition=True, loss_mean=0.1, run_id="one")
    table = read_runs(foreign.assign(epochs_real=9.0))
    assert table.excluded == {} and table.law_refusal is None and len(table.fresh().rows) == 16
    assert [note.split("'")[1] for note in table.notes] == ["diverged", "exclusion", "pre_transition"]
    law = fit(power_law("N"), foreign, columns={"N": "params"}, profiles=False, search=Search(starts=16))
    assert law.data.rows == 16 and set(table.notes) <= set(law.data.warnings)
    assert read_runs(exported(runs()).assign(exclusion=["bad"] + [""] * 15)).excluded == {"bad": 1}


@pytest.mark.parametrize("study", ["quickstart", "pilot", "lr_transfer"])
def test_committed_tables_count_as_exported(study):
    table = read_runs(f"results/{study}/runs.csv")
    assert table.exported and set(table.frame) >= EXPORTED


def test_two_columns_of_one_name_in_a_frame_are_refused():
    frame = runs()
    frame.columns = ["loss", "loss"]
    with pytest.raises(ValueError, match="two columns named 'loss'"):
        read_runs(frame)


def test_a_column_of_trunks_is_a_column_and_rows_without_a_trunk_are_named():
    frame = runs().assign(trunk_id="t")
    told = {"profiles": False, "search": Search(starts=16)}
    with pytest.raises(ValueError, match=r"missing columns \['trnk'\]"):
        fit(power_law("N"), frame, columns=Columns({"N": "params"}, cluster="trnk"), **told)
    frame.loc[3, "trunk_id"] = None
    with pytest.raises(ValueError, match="1 rows have no group, first row 3"):
        fit(power_law("N"), frame, columns={"N": "params"}, **told)


def test_remedies_are_those_of_the_command_line(tmp_path, capsys):
    repeated = exported(runs().rename(columns={"params": "n_params"})).assign(records_seen=runs()["params"] ** 0.5)
    repeated.assign(epochs_real=4.0, real_fraction=0.5).to_csv(tmp_path / "runs.csv", index=False)
    said = refused(capsys, ["fit", tmp_path / "runs.csv", "--replicates", "0"])
    assert "--where real_fraction=0, or --fresh" in said and ".where(" not in said


def test_compute_that_contradicts_sizes_and_data_is_said_to():
    n, d = np.array([1e6, 2e6, 4e6]), np.array([1e8, 1e8, 1e8])
    assert "factor 1 to 4" in compute_notes(n, d, 6 * n * d / [1, 4, 2], "'flops'")[0]
    assert "in another unit than FLOPs?" in compute_notes(n, d, 6 * n * d / 1e9, "'gflops'")[0]
    assert compute_notes(n, d, 6 * n * d, "'flops'") == ["6 N D is 1 times 'flops' in all rows (within 0 %)"]


def test_contradicting_compute_is_noted_by_isoflop(tmp_path, capsys):
    parts = []
    for c in (1e17, 1e18, 1e19):
        n = 1e6 * (c / 1e17) ** 0.5 * np.geomspace(1 / 4, 4, 6)
        d = c / (6 * n) * np.where(np.arange(6) % 2, 4.0, 1.0)
        parts.append(
            pd.DataFrame({"params": n, "tokens": d, "flops": c, "loss": 1 + 40 / n**0.3 + 90 / (c / n) ** 0.3})
        )
    pd.concat(parts).to_csv(tmp_path / "sweep.csv", index=False)
    words = [str(tmp_path / "sweep.csv"), "--n", "params", "--d", "tokens", "--c", "flops", "--quiet"]
    assert main(["isoflop", *words]) == 0
    assert "6 N D differs from column 'flops' by a factor 1 to 4 between rows" in capsys.readouterr().out


def test_candidates_may_have_any_names_of_columns(tmp_path, capsys):
    runs().to_csv(tmp_path / "runs.csv", index=False)
    words = ["design", tmp_path / "runs.csv", tmp_path / "more.csv", *QUICK, "--quantity", "alpha", "--budget", "10"]
    found = []
    for size, cost in (("params", "flops"), ("N", "price")):
        pd.DataFrame({size: [1e6, 1e10], cost: [2.0, 5.0]}).to_csv(tmp_path / "more.csv", index=False)
        assert main([str(word) for word in (*words, "--c", cost, "--out", tmp_path / "plan.json")]) == 0
        found.append([row["flops"] for row in json.loads((tmp_path / "plan.json").read_text())["rows"]])
    assert found[0] == found[1]
    capsys.readouterr()
    pd.DataFrame({"size": [1e6]}).to_csv(tmp_path / "more.csv", index=False)
    assert "more.csv: missing columns ['params']" in refused(capsys, words)


def start(*words, **streams) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-m", "scaling_fits", *map(str, words)], text=True, **streams)


@pytest.mark.parametrize("after", [1.0, 6.0])
def test_ctrl_c_ends_with_one_line_and_130(after, table):
    words = ["fit", table, "--law", "power_law_N", "--n", "params", "--replicates", "2000000"]
    process = start(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(after)  # while modules are loaded, and while XLA computes
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130 and out == ""
    assert err.strip().startswith("stopped; ") and err.strip().count("\n") == 0


def test_when_it_has_ended_ctrl_c_is_its_callers_again(monkeypatch, capsys):
    """As for a program that runs the module within itself."""
    monkeypatch.setattr(sys, "argv", ["scaling_fits", "--help"])
    threads = threading.active_count()
    with pytest.raises(SystemExit) as ended:
        runpy.run_module("scaling_fits", run_name="__main__")
    assert ended.value.code == 0 and "usage" in capsys.readouterr().out
    assert signal.set_wakeup_fd(-1) == -1 and threading.active_count() == threads


def test_a_closed_pipe_ends_quietly():
    words = [
        "--sizes",
        "1e5,3e5,1e6",
        "--budgets",
        "1e4",
        "--slope",
        "-0.1",
        "--trunk-sd",
        "0.02",
        "--residual-sd",
        "0.01",
    ]
    process = start("power", *words, "--seeds-max", "4", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process.stdout.close()
    assert process.stderr.read() == "" and process.wait(timeout=120) == 141
