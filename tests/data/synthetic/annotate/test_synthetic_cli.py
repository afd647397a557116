"""The command line of the generator: what it makes, and one line for what it cannot make, before anything is made."""

from types import SimpleNamespace

import matplotlib.image
import numpy as np
import pandas as pd
import pytest
import wfdb

from ecg_jax.data.synthetic import __main__ as cli
from ecg_jax.data.synthetic.annotate import page
from ecg_jax.data.synthetic.annotate.annotation import annotate
from ecg_jax.data.synthetic.physiology.condition_mix import only
from ecg_jax.data.synthetic.physiology.conditions import Morphology, Rhythm
from ecg_jax.data.synthetic.render.tiers import Tier, recipe

OUT = ["--out", "out.png"]


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["show", "--condition", "LBB", *OUT], "unknown condition 'LBB': there are SINUS"),
        (["show", "--condition", "RBBB", "LBBB", *OUT], "one record shows one morphology, not RBBB and LBBB"),
        (["show", "--condition", "AV_BLOCK_3", "--condition", "WPW", *OUT], "no record can show AV_BLOCK_3 with WPW"),
        (["show", "--tier", "T3", *OUT], "unknown tier 'T3': there are T-1, T0"),
        (["show", "--tier", "T2", *OUT], "fitted to a pool of real records by fit_priors"),
        (["show", "--tier", "T-1", *OUT], "fitted to a pool of real records by fit_priors"),
        (["show", "--tier", "T1a", "--condition", "LBBB", *OUT], "tier T1a has no conditions"),
        (["show", "--rate", "400", *OUT], "--rate is 400 Hz: one of 100, 200, 250, 500, 1000"),
        (["show", "--seed", "-1", *OUT], "--seed is -1"),
        (["show", "--index", "-1", *OUT], "--index is -1"),
        (["show", "--out", "page.gif"], ".png, .pdf, .svg"),
        (["show", "--out", "taken.png"], "taken.png exists"),
        (["show"], "--out"),
        (["show", "--tier", "T0", "--fiducials", *OUT], "T0 knows no onsets"),
        (["export", "--tier", "T0", "--out", "out"], "tier T0 has no annotations"),
        (["export", "--records", "0", "--out", "out"], "--records is 0: at least 1"),
        (["export", "--records", "many", "--out", "out"], "invalid int value: 'many'"),
        (["export", "--mix", "rare", "--out", "out"], "--mix rare: one of prevalence, uniform"),
        (["export", "--mix", "uniform", "--condition", "LBBB", "--out", "out"], "not together with --condition"),
        (["export", "--tier", "T0", "--mix", "uniform", "--out", "out"], "tier T0 has no conditions"),
        (["export", "--out", "."], "not an empty folder"),
        (["contact", "--tier", "T1b", *OUT], "tier T1b has no conditions"),
        (["draw"], "invalid choice"),
    ],
)
def test_a_bad_request_is_one_line_before_anything_is_generated(here, monkeypatch, capsys, arguments, message):
    (here / "taken.png").write_text("mine")
    for module in (cli, cli.export):
        monkeypatch.setattr(module, "annotate", lambda *_, **__: pytest.fail("generated"))
    try:
        status = cli.main(arguments)
    except SystemExit as stop:  # argparse's own
        status = stop.code
    assert status == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: ") and captured.err.count("\n") == 1
    assert message in captured.err
    assert captured.out == ""
    assert [path.name for path in here.iterdir()] == ["taken.png"]


def test_help_teaches_by_examples(capsys):
    with pytest.raises(SystemExit) as stop:
        cli.main(["export", "--help"])
    assert stop.value.code == 0
    assert "ecg-jax synthetic export --out records/" in capsys.readouterr().out


def test_list_names_every_condition_with_its_codes_and_every_tier(capsys):
    assert cli.main(["list"]) == 0
    words = [line.split() for line in capsys.readouterr().out.splitlines()]
    listed = {line[0]: line[1] for line in words if len(line) > 1}
    assert {member.name for kind in (Rhythm, Morphology) for member in kind} <= listed.keys()
    assert {tier.value for tier in Tier} <= listed.keys()
    assert (listed["SINUS"], listed["ATRIAL_FIBRILLATION"], listed["LBBB"]) == ("SR", "AFIB", "CLBBB")


def test_every_condition_has_words_of_its_own():
    words = [page.in_words(member) for kind in (Rhythm, Morphology) for member in kind]
    assert len(set(words)) == len(Rhythm) + len(Morphology)


def test_show_draws_one_record(here, capsys):
    arguments = ["show", "--condition", "lbbb", "--rate", "100", "--fiducials", "--out", "new/page.png"]
    assert cli.main(arguments) == 0
    printed = capsys.readouterr()
    assert "Left bundle branch block" in printed.out
    assert printed.err.startswith(
        "rendering and drawing tier T1d, seed 0, record 0; the first record takes longest …\n"
    )
    assert matplotlib.image.imread(here / "new" / "page.png").shape[:2] == (2100, 2970)


def test_export_writes_the_records_of_annotate(here):
    arguments = ["export", "--condition", "LBBB", "--rate", "100", "--records", "33", "--seed", "3", "--out", "records"]
    assert cli.main(arguments) == 0
    table = pd.read_csv(here / "records" / "records.csv")
    assert len(table) == 33 and set(table["morphology"]) == {"LBBB"}
    made = annotate(3, np.array([32]), recipe(Tier.ACQUISITION, only(Morphology.LBBB)), 100)
    reopened = wfdb.rdrecord(str(here / "records" / "synthetic_000032"))
    np.testing.assert_allclose(reopened.p_signal, made.ecg_mv[0], atol=0.6e-3)
    beats = wfdb.rdann(str(here / "records" / "synthetic_000032"), "atr")
    assert beats.symbol[0] == "+" and 5 <= beats.symbol.count("N") <= 25
    assert cli.main(arguments) == 2, "what was exported is not written over"


def test_contact_draws_the_first_record_of_every_condition(here, monkeypatch, capsys):
    pairs = [(rhythm, Morphology.NORMAL) for rhythm in Rhythm]
    pairs += [(Rhythm.SINUS, morphology) for morphology in Morphology if morphology is not Morphology.NORMAL]
    pairs += [(Rhythm.ATRIAL_FIBRILLATION, Morphology.RBBB)] * 20  # two at once: of no use

    def drawn(_: int, indices: np.ndarray, *__: object) -> SimpleNamespace:
        chosen = np.array([pairs[(7 * index) % len(pairs)] for index in indices.tolist()])
        ecg_mv = np.zeros((len(indices), 1000, 12), np.float32)
        return SimpleNamespace(rhythm=chosen[:, 0], morphology=chosen[:, 1], ecg_mv=ecg_mv)

    titles = []
    contact_sheet = cli.ecg_plot.contact_sheet
    monkeypatch.setattr(cli, "annotate", drawn)
    monkeypatch.setattr(
        cli.ecg_plot, "contact_sheet", lambda panels, rate: titles.extend(panels) or contact_sheet(panels, rate)
    )
    assert cli.main(["contact", "--rate", "100", "--out", "contact.png"]) == 0
    assert [title for title, _ in titles[:2]] == ["Sinus rhythm", "Sinus bradycardia"]
    assert len({title for title, _ in titles}) == len(Rhythm) + len(Morphology) - 1
    assert f"{len(titles)} conditions" in capsys.readouterr().out
    assert matplotlib.image.imread(here / "contact.png").shape[1] == 1600


def test_measurements_follow_the_latents():
    made = annotate(3, np.arange(32), recipe(Tier.ACQUISITION, only(Morphology.LBBB)), 100)
    for row in range(32):
        measured = page.measure(made, row)
        patient = {name: float(values[row]) for name, values in made.patient.items()}
        assert measured.rate_bpm == pytest.approx(patient["heart_rate_bpm"], rel=0.2)
        assert measured.pr_ms[0] == pytest.approx(patient["pr_ms"], abs=20)
        assert measured.qrs_ms == pytest.approx(patient["qrs_ms"], abs=25)
        assert measured.qtcf_ms == pytest.approx(patient["qtcf_ms"], abs=60)
