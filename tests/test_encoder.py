import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy
from scipy import signal
from support.configs import make_config
from support.places import TESTS
from support.run_packs import do, trained
from support.synthetic_pools import made_up_pool

import ecg_jax
from ecg_jax import encoder as encoders
from ecg_jax import models
from ecg_jax.config import Attention, Objective, Readout, Tokens
from ecg_jax.data.ecg import LEADS, normalise
from ecg_jax.data.preprocess import filtered
from ecg_jax.data.synthetic.standin import SOURCE as STANDIN
from ecg_jax.distributed.mesh import make_mesh, place_batch
from ecg_jax.encoder import Encoder, export_encoder
from ecg_jax.evaluate import heldout as held
from ecg_jax.evaluate.response import response_of
from ecg_jax.outputs.model_card import CardFacts, model_card
from ecg_jax.store.layout import open_store
from ecg_jax.study import sweep
from ecg_jax.train.step import member
from ecg_jax.train.training_data import TrainingData

DATA = TrainingData(real=made_up_pool(20, 2, name="ptbxl"), synthetic={"b": made_up_pool(2000, 1)})
RESPONSE = response_of(held.freeze(made_up_pool(9, 5, name="ptbxl"), 50, masks=2), DATA.real)
CONFIG = make_config(study="s", response=RESPONSE.heldout.identity, budget_records=512)
ECG = made_up_pool(6, 3).ecg


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A study of two budgets that keeps the encoder of the larger: its store."""
    targets = sweep.grid(CONFIG, {"budget_records": [256, 512]})
    store = open_store(tmp_path_factory.mktemp("kept"), "s", targets, {})
    with jax.set_mesh(make_mesh(jax.devices()[:1])):
        do(store, targets, DATA, RESPONSE, keep=lambda config: config.budget_records == 512)
    return store


@pytest.fixture(scope="module")
def folder(kept):
    return kept.encoder(CONFIG)


@pytest.fixture(scope="module")
def encoder(folder):
    return ecg_jax.load_encoder(folder)


@pytest.fixture
def copy(folder, tmp_path):
    """A copy of the encoder's folder, to be damaged."""
    path = tmp_path / "copy"
    path.mkdir()
    for file in folder.iterdir():
        (path / file.name).write_bytes(file.read_bytes())
    return path


def facts_of(store, config=CONFIG) -> CardFacts:
    return CardFacts(store.record(config), DATA.real, RESPONSE.heldout.pool)


def card_of(store) -> str:
    return model_card(CONFIG, facts_of(store))


# ---- what a study keeps --------------------------------------------------------------------------------------------


def test_the_kept_encoder_is_the_run_that_was_recorded(kept, encoder, mesh):
    assert encoder.config == CONFIG and "width 28" not in repr(encoder) and CONFIG.run_id in repr(encoder)
    assert CONFIG.run_id in encoder._repr_html_() and "<th>width</th><td>28</td>" in encoder._repr_html_()
    errors = held.model_errors(models.build(CONFIG.model), encoder._params, RESPONSE.heldout)
    assert held.overall(errors, RESPONSE.heldout) == kept.record(CONFIG)["loss"]


def test_only_what_is_asked_for_is_kept_and_nothing_done_is_done_again(kept, mesh):
    smaller = sweep.replace(CONFIG, {"budget_records": 256})
    assert kept.is_done(smaller) and not kept.encoder(smaller).exists()
    do(kept, [smaller], DATA, RESPONSE, keep=lambda config: True)
    assert not kept.encoder(smaller).exists()


def test_a_run_that_diverged_leaves_no_encoder(tmp_path, mesh):
    config = sweep.replace(CONFIG, {"optim.learning_rate": 1e30, "optim.warmup_records": 0})
    store = open_store(tmp_path, "s", [config], {})
    do(store, [config], DATA, RESPONSE, keep=lambda config: True)
    assert store.record(config)["diverged"] and not store.encoder(config).exists()


def test_features_are_those_of_the_trained_state_to_the_last_bit(kept, tmp_path, mesh):
    p, state, _ = trained([CONFIG], DATA, range(3))
    params = member(state.params, 0)
    export_encoder(tmp_path / "e", CONFIG, params, card_of(kept))
    loaded = ecg_jax.load_encoder(str(tmp_path / "e"))
    for ours, theirs in zip(jax.tree.leaves(loaded._params), jax.tree.leaves(params), strict=True):
        np.testing.assert_array_equal(ours, theirs)
    same = Encoder(CONFIG, params)
    np.testing.assert_array_equal(loaded(ECG), same(ECG))
    np.testing.assert_array_equal(loaded.tokens(ECG), same.tokens(ECG))
    everything = place_batch(np.ones((6, 50, 12), bool))
    expected = jax.jit(p.model.pooled)(params, place_batch(normalise(ECG)), everything)
    np.testing.assert_allclose(loaded(ECG), expected, atol=1e-5)


# ---- features ------------------------------------------------------------------------------------------------------


def test_one_line_for_a_record_and_for_many(folder, encoder):
    features = ecg_jax.load_encoder(folder)(ECG)
    width = CONFIG.model.width
    assert features.shape == (6, width) and features.dtype == np.float32 and isinstance(features, np.ndarray)
    assert encoder(ECG[0]).shape == (1, width) and encoder(ECG[:0]).shape == (0, width)
    tokens = encoder.tokens(ECG)
    assert tokens.shape == (6, 50, width) and tokens.dtype == np.float32
    np.testing.assert_allclose(tokens.mean(axis=1), features, atol=1e-5)
    assert np.ptp(features, axis=0).min() > 1e-4, "all records have the same features"


@pytest.mark.parametrize(
    "of",
    [
        lambda counts: counts / 1000,  # millivolts
        lambda counts: (counts / 1000).astype(np.float32),
        lambda counts: counts * 1e-6 + 3.0,  # volts, with the offset of an electrode
        lambda counts: counts.astype(np.int64) * 10**6,
        lambda counts: counts.astype(">i2"),
        lambda counts: counts * 1e-40,
    ],
)
def test_the_unit_does_not_matter(encoder, of):
    np.testing.assert_allclose(encoder(of(ECG)), encoder(ECG), atol=2e-5)


def test_the_order_of_leads_does_not_matter_once_it_is_said(encoder):
    order = [11, *range(11)]
    named = tuple(LEADS[lead] for lead in order)
    np.testing.assert_array_equal(encoder(ECG[:, :, order], leads=named), encoder(ECG))
    assert np.abs(encoder(ECG[:, :, order]) - encoder(ECG)).max() > 1e-2


@pytest.mark.parametrize("write", [str.upper, str.lower, "ECG {}".format, "Lead {}".format, " {}-Ref".format])
def test_leads_are_named_as_files_name_them(encoder, write):
    np.testing.assert_array_equal(encoder(ECG, leads=tuple(map(write, LEADS))), encoder(ECG))


def test_missing_leads_are_invisible(encoder, mesh):
    leads = ("V1", "I", "II")
    kept = [LEADS.index(lead) for lead in leads]
    fewer = encoder(ECG[:, :, kept], leads=leads)
    assert np.abs(fewer - encoder(ECG)).max() > 1e-2
    pooled, visible = jax.jit(models.build(CONFIG.model).pooled), np.zeros((6, 50, 12), bool)
    visible[:, :, kept] = True
    for seed in (0, 1):  # whatever stands where the model may not look
        x = np.random.default_rng(seed).normal(size=ECG.shape).astype(np.float32)
        x[:, :, kept] = normalise(ECG)[:, :, kept]
        found = pooled(encoder._params, place_batch(x), place_batch(visible))
        np.testing.assert_allclose(found, fewer, atol=1e-5)


@pytest.mark.parametrize("level", [0, 1234, -32767])
@pytest.mark.parametrize("kind", [np.int16, np.float64])
def test_a_flat_lead_is_a_missing_lead(encoder, level, kind):
    flat = ECG.astype(kind)
    flat[:, :, 6:] = level * (1 if kind is np.int16 else 0.1)
    np.testing.assert_allclose(encoder(flat), encoder(flat[:, :, :6], leads=LEADS[:6]), atol=1e-6)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_lead_that_was_flat_before_a_filter_is_a_missing_lead(encoder, kind):
    sections = signal.butter(4, (0.5, 40), "bandpass", fs=500, output="sos")
    raw = signal.resample_poly(ECG / 1000, 5, 1, axis=1, padtype="line").astype(kind)
    constant = np.where(np.arange(12) == 8, kind(0.3), raw)
    others = [lead for lead in range(12) if lead != 8]
    for chain in (lambda x: filtered(x, 500, 100), lambda x: signal.sosfiltfilt(sections, x, axis=1)[:, ::5]):
        ecg = chain(constant)
        absent = encoder(ecg[:, :, others], leads=tuple(LEADS[lead] for lead in others))
        np.testing.assert_allclose(encoder(ecg), absent, atol=1e-5)
        small = chain(np.where(np.arange(12) == 8, kind(0.3) + raw[:, :, 7:8] / 400, raw))  # a few microvolts
        assert np.abs(encoder(small) - absent).max() > 1e-3


def test_the_message_for_another_rate_names_the_filter(encoder):
    remedy = r"if these are 10 s at 500 Hz, ecg_jax\.data\.preprocess\.apply_chain\(ecg_mv, 500, 100\) filters"
    with pytest.raises(ValueError, match=remedy):
        encoder(np.zeros((5000, 12)))
    with pytest.raises(ValueError, match=r"cut to 10 s, then ecg_jax\.data\.preprocess\.apply_chain\(ecg_mv, rate"):
        encoder(np.zeros((1234, 12)))


def test_a_record_has_its_features_whatever_comes_with_it(encoder, monkeypatch):
    ecg = made_up_pool(70, 4).ecg
    together = encoder(ecg)  # a whole batch, and one of 6
    np.testing.assert_allclose(encoder(ecg[64:]), together[64:], atol=1e-5)
    np.testing.assert_allclose(encoder(ecg[69]), together[69:], atol=1e-5)
    monkeypatch.setattr(encoders, "BATCH_RECORDS", 4)
    np.testing.assert_allclose(encoder(ecg[:7]), together[:7], atol=1e-5)


def test_a_plain_process_with_three_devices_needs_no_mesh(folder, encoder):
    script = """if True:
        import sys
        import numpy as np
        import ecg_jax
        assert "jax" not in sys.modules, "importing ecg_jax loads JAX"
        import jax
        jax.config.update("jax_num_cpu_devices", 3)
        from support.synthetic_pools import made_up_pool
        features = ecg_jax.load_encoder(sys.argv[1])(made_up_pool(6, 3).ecg)
        print(jax.device_count(), features.astype("<f4").tobytes().hex())
    """
    done = subprocess.run([sys.executable, "-c", script, str(folder)], cwd=TESTS, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    devices, features = done.stdout.split()
    assert devices == "3"
    found = np.frombuffer(bytes.fromhex(features), "<f4").reshape(6, -1)
    np.testing.assert_allclose(found, encoder(ECG), atol=1e-5)


# ---- what is refused -----------------------------------------------------------------------------------------------


def with_nan(record: int, sample: int, lead: int) -> np.ndarray:
    ecg = ECG / 1000
    ecg[record, sample, lead] = np.nan
    return ecg


@pytest.mark.parametrize(
    ("ecg", "leads", "message"),
    [
        (ECG[:, :500], LEADS, r"\(6, 500, 12\) has 500 samples per lead; this encoder takes 1000: 10 s at 100 Hz"),
        (ECG[:, :, :8], LEADS, r"\(6, 1000, 8\) has 8 leads on its last axis, leads names 12 \(I, II,"),
        (ECG[0].T, LEADS, r"\(12, 1000\) has 1000 leads .* expected \(1000, 12\) or \(records, 1000, 12\)"),
        (ECG[:, :, :3], ("I", "II"), r"has 3 leads on its last axis, leads names 2 \(I, II\)"),
        (ECG[0, :, 0], LEADS, r"of shape \(1000,\); expected \(1000, 12\)"),
        (ECG[None], LEADS, r"of shape \(1, 6, 1000, 12\); expected"),
        (ECG.astype(object), LEADS, "array of object; expected numbers, int16 or float"),
        (ECG.astype(str), LEADS, "array of <U6; expected numbers"),
        (ECG.astype(complex), LEADS, "array of complex128; expected numbers"),
        (ECG > 0, LEADS, "array of bool; expected numbers"),
        (with_nan(4, 17, 7), LEADS, "holds nan in record 4, lead V2, sample 17; expected finite"),
        (with_nan(0, 3, 1)[0], LEADS, "holds nan in record 0, lead II, sample 3"),
        (np.where(np.isnan(with_nan(2, 0, 0)), -np.inf, 1.0), LEADS, "holds -inf in record 2, lead I, sample 0"),
        (ECG[:, :, :2], ("I", "MLII"), r"leads = \('I', 'MLII'\): each must be one of I, II, III, aVR"),
        (ECG[:, :, :2], ("I", "I"), r"leads = \('I', 'I'\): each must be one of .*, once"),
        (ECG[:, :, :0], (), "at least one is needed"),
        (ECG[:, :, :2], ("I", "Lead I"), r"leads = \('I', 'Lead I'\): each must be one of .*, once"),
        (ECG[:, :, :1], "MCL1", r"leads = \('MCL1',\): each must be one of"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(encoder, ecg, leads, message):
    for features in (encoder, encoder.tokens):
        with pytest.raises(ValueError, match=message):
            features(ecg, leads=leads)


def test_an_encoder_of_independent_leads_refuses_only_derived_ones(mesh):
    config = sweep.replace(CONFIG, {"model.tokens": Tokens.LEAD_TIME, "model.patches": 5, "model.patch_samples": 200})
    abstract = jax.eval_shape(models.build(config.model).init, jax.random.key(0))
    encoder = Encoder(config, jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), abstract))
    with pytest.raises(ValueError, match=r"leads = \('III', 'aVF'\): this encoder reads I, II, V1, .* only"):
        encoder(ECG[:, :, :2], leads=("III", "aVF"))


def change_config(path: Path, change) -> None:
    tree = json.loads((path / "config.json").read_text())
    change(tree)
    (path / "config.json").write_text(json.dumps(tree))


def change_tensors(path: Path, change) -> None:
    tensors = dict(safetensors.numpy.load_file(path / "model.safetensors"))
    change(tensors)
    safetensors.numpy.save_file(tensors, path / "model.safetensors")


def other_shape(tensors):
    tensors["norm.scale"] = np.ones(7, np.float32)


def other_type(tensors):
    tensors["norm.scale"] = tensors["norm.scale"].astype(np.float64)


def one_more(tensors):
    tensors["blocks.9.up.kernel"] = np.ones((2, 3), np.float32)


WIDTH = CONFIG.model.width


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: change_config(p, lambda t: t.update(version=2)), "of version 2, this ecg-jax reads up to version 1"),
        (lambda p: change_config(p, lambda t: t.update(version="1")), "is not the config of an encoder"),
        (lambda p: change_config(p, lambda t: t.pop("format")), "must say format 'ecg-jax encoder' and a version"),
        (lambda p: change_config(p, lambda t: t.pop("config")), "holds no config of a run"),
        (lambda p: change_config(p, lambda t: t["config"].update(new=1)), r"unknown fields \['new'\].* upgrade"),
        (lambda p: change_config(p, lambda t: t["config"]["model"].update(architecture="s5")), "'s5' is none of"),
        (lambda p: (p / "config.json").write_text("[]"), "is not the config of an encoder"),
        (lambda p: (p / "config.json").write_text("{"), "config.json is not JSON"),
        (lambda p: change_tensors(p, other_shape), rf"norm.scale is F32 \(7,\), not F32 \({WIDTH},\)"),
        (lambda p: change_tensors(p, other_type), rf"norm.scale is F64 \({WIDTH},\), not F32 \({WIDTH},\)"),
        (lambda p: change_tensors(p, lambda t: t.pop("norm.scale")), rf"norm.scale is nothing, not F32 \({WIDTH},\)"),
        (lambda p: change_tensors(p, one_more), r"blocks.9.up.kernel is F32 \(2, 3\), not nothing"),
        *[
            (lambda p, of=of: change_config(p, lambda t: t["config"]["model"].update(of)), told)
            for of, told in (
                ({"depth": 400}, r"a model of depth 400, width \d+ and records of 1000 samples is not in its \d+ t"),
                ({"depth": 10**12}, "a model of depth 1000000000000"),
                ({"depth": 2}, r"blocks.1.\S+ is nothing, not F32"),
                ({"width": 10**12, "heads": 1}, "width 1000000000000"),
                ({"patches": 10**12}, "records of 20000000000000 samples"),
                ({"depth": "2"}, "depth = '2' is not of type"),
                ({"depth": 0}, "every size of a model must be at least 1"),
            )
        ],
        (lambda p: (p / "config.json").write_text(" " * (1 << 20) + "{}"), "of an encoder has a few thousand"),
        (
            lambda p: change_config(p, lambda t: t["config"]["model"].update(width=2 * WIDTH, heads=1)),
            rf"norm.scale is F32 \({WIDTH},\), not F32 \({2 * WIDTH},\).*; and \d+ more",
        ),
        (lambda p: (p / "model.safetensors").write_bytes(b"\x80\x04K\x01."), "is not a whole safetensors file"),
        (
            lambda p: (p / "model.safetensors").write_bytes((p / "model.safetensors").read_bytes()[:-4]),
            "is not a whole safetensors file",
        ),
    ],
)
def test_a_damaged_encoder_is_refused(copy, damage, message):
    damage(copy)
    with pytest.raises(ValueError, match=message) as refused:
        ecg_jax.load_encoder(copy)
    assert str(copy) in str(refused.value)


@pytest.mark.parametrize("lacking", [["config.json"], ["model.safetensors"], ["model.safetensors", "config.json"]])
def test_a_folder_without_files_is_refused(copy, lacking):
    for name in lacking:
        (copy / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"is no encoder: it lacks {' and '.join(lacking)}; expected"):
        ecg_jax.load_encoder(copy)
    with pytest.raises(FileNotFoundError, match="is no encoder"):
        ecg_jax.load_encoder(copy / "nowhere")


def test_no_block_is_built_before_the_tensors_are_compared(copy, monkeypatch):
    """400 tensors of one number each, under the names of 400 blocks."""
    change_config(copy, lambda tree: tree["config"]["model"].update(depth=400))
    few = {f"blocks.{block}.up.kernel": np.ones(1, np.float32) for block in range(400)}
    safetensors.numpy.save_file(few, copy / "model.safetensors")
    built, build = [], models.build
    monkeypatch.setattr(models, "build", lambda model: built.append(model.depth) or build(model))
    with pytest.raises(ValueError, match=r"blocks\.0\.\S+ is nothing, not F32.*; and \d+ more"):
        ecg_jax.load_encoder(copy)
    assert built == [1]


def test_nothing_but_the_fixed_names_is_read(copy, encoder):
    (copy / "model.pkl").write_bytes(b"\x80\x04K\x01.")
    (copy / "README.md").unlink()
    np.testing.assert_array_equal(ecg_jax.load_encoder(copy)(ECG), encoder(ECG))


# ---- export --------------------------------------------------------------------------------------------------------


def test_an_encoder_appears_whole_or_not_at_all(kept, encoder, tmp_path, monkeypatch):
    def export():
        export_encoder(tmp_path / "e", CONFIG, encoder._params, card_of(kept))

    with monkeypatch.context() as patch, pytest.raises(OSError, match="disk full"):
        patch.setattr(encoders, "write_text", lambda *_: (_ for _ in ()).throw(OSError("disk full")))
        export()
    assert list(tmp_path.iterdir()) == []
    export()
    first = {path.name: path.read_bytes() for path in (tmp_path / "e").iterdir()}
    assert set(first) == {"model.safetensors", "config.json", "README.md"}
    export()  # as a run does that was killed before its record was written
    assert {path.name: path.read_bytes() for path in (tmp_path / "e").iterdir()} == first


def test_a_folder_of_other_things_is_not_overwritten(kept, encoder, tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(FileExistsError, match=r"holds thesis\.tex, which are no part of an encoder"):
        export_encoder(tmp_path, CONFIG, encoder._params, card_of(kept))
    assert (tmp_path / "thesis.tex").exists()


# ---- the model card ------------------------------------------------------------------------------------------------


def test_the_card_tells_the_run(kept, folder):
    card, record = (folder / "README.md").read_text(), kept.record(CONFIG)
    for fact in (
        CONFIG.run_id,
        CONFIG.response,
        "Real fraction 0.5: 256 of the 512 records seen",
        "20 records of 20 patients of ptbxl",
        "9 records of 9 patients held out",
        "tier T1d",
        "published statistics",
        f"{record['n_params']:,} in blocks, {record['n_params_total']:,} in all",
        f"| this model | {record['loss']:.4f} |",
        f"{record['loss_linear']:.4f}",
        f"{record['loss_mean']:.4f}",
        "research only",
        "not a medical device",
        "CC BY 4.0",
        "Wagner",
    ):
        assert fact in card, fact
    assert "Stand-in" not in card and "None" not in card


def test_the_card_says_whose_the_data_are_and_what_the_task_is(kept):
    facts = facts_of(kept)
    pure = dataclasses.replace(facts, record=facts.record | {"real_seen": 0})
    card = model_card(sweep.replace(CONFIG, {"data.real_fraction": 0.0}), pure)
    assert "real pool: none" in card and "ptbxl (measured on)" in card and "synthetic (trained on)" in card
    fitted = sweep.replace(CONFIG, {"data.real_fraction": 0.0, "data.real_information": "pool abc, 20 patients"})
    assert "ptbxl (measured on, priors of the generator fitted to)" in model_card(fitted, pure)
    real = dataclasses.replace(facts, record=facts.record | {"real_seen": 512})
    card = model_card(sweep.replace(CONFIG, {"data.real_fraction": 1.0}), real)
    assert "synthetic" not in card.partition("## Data")[2] and "ptbxl (measured on, trained on)" in card
    served = {"model.attention": Attention.CAUSAL, "model.readout": Readout.GAUSSIAN}
    forecasts = model_card(sweep.replace(CONFIG, {"objective": Objective.NEXT_PATCH} | served), facts)
    assert "in nats" in forecasts and "predicts the next time patch" in forecasts
    standin = dataclasses.replace(DATA.real, source=STANDIN)
    assert "**Stand-in, not real.**" in model_card(CONFIG, dataclasses.replace(facts, training=standin))
    other = dataclasses.replace(DATA.real, source="hospital")
    assert "hospital (trained on): licence not known" in model_card(CONFIG, dataclasses.replace(facts, training=other))
