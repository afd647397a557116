import copy
import dataclasses
import json
import math
import pickle
from fractions import Fraction
from pathlib import Path

import pytest
from support.configs import make_config

from ecg_jax import codec
from ecg_jax import config as configs
from ecg_jax.codec import added, differences, fingerprint, to_json
from ecg_jax.config import SCHEMA, OptimConfig, RunConfig, Tokens
from ecg_jax.data.mixture import Mixture, counts
from ecg_jax.study import sweep

GOLDEN = Path(__file__).parent / "golden"


def test_json_round_trip_is_exact():
    config = make_config(**{"data.real_patients": 150, "optim.learning_rate": 0.1 + 0.2})
    assert RunConfig.from_json(json.loads(json.dumps(to_json(config)))) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tree: tree.pop("seed"), "missing fields \\['seed'\\]"),
        (lambda tree: tree.update(sede=1), "unknown fields \\['sede'\\]"),
        (lambda tree: tree.update(budget_records="1024"), "RunConfig.budget_records = '1024'"),
        (lambda tree: tree["data"].update(real_fraction=None), "RunConfig.data.real_fraction = None"),
        (
            lambda tree: tree["model"].update(experts=8),
            r"model: unknown fields \['experts'\].*a newer ecg-jax may have",
        ),
        (
            lambda tree: tree["model"].update(architecture="mamba"),
            "architecture = 'mamba' is none of transformer; a newer",
        ),
        (lambda tree: tree.update(model="1M"), "RunConfig.model = '1M' is no set of fields"),
    ],
)
def test_damaged_json_is_refused_by_field(change, message):
    tree = to_json(make_config())
    change(tree)
    with pytest.raises(ValueError, match=message):
        RunConfig.from_json(tree)


def test_a_trunk_serves_all_budgets_and_nothing_else():
    config = make_config()
    assert make_config(budget_records=2048).trunk_id == config.trunk_id
    assert make_config(budget_records=2048).run_id != config.run_id
    for path, value in {"seed": 1, "data.real_fraction": 0.4, "optim.weight_decay": 0.5, "model.depth": 2}.items():
        assert make_config(**{path: value}).trunk_id != config.trunk_id, path


def test_identities_do_not_drift():
    """Golden: if this fails, every stored run loses its identity. Change it only with the meaning of a config."""
    assert make_config().run_id == "b9cf11a7c58a165f"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data.real_fraction": 1.5}, r"real_fraction = 1.5 lies outside \[0, 1\]"),
        ({"data.real_fraction": -0.1}, r"real_fraction = -0.1 lies outside"),
        ({"budget_records": 1000}, "1000 is not a multiple of batch_records = 32"),
        ({"budget_records": 32}, "too few for a cool-down"),
        ({"model.heads": 3}, "width = 28 does not divide by heads = 3"),
        ({"optim.learning_rate": 0.0}, "learning_rate = 0.0 must be positive"),
        ({"optim.cooldown_fraction": 1.0}, "cooldown_fraction"),
        ({"mask_ratio": 0.0}, "mask_ratio"),
        ({"mask_ratio": math.nan}, "mask_ratio = nan"),
        ({"optim.learning_rate": math.nan}, "learning_rate = nan must be positive"),
        ({"optim.weight_decay": math.inf}, "weight_decay"),
        ({"model.stem_samples": 0}, "every size of a model must be at least 1"),
        ({"model.depth": 0}, "every size of a model must be at least 1"),
        ({"model.width": 28.0}, "ModelConfig.width = 28.0 is not of type"),
        ({"model.patches": True}, "ModelConfig.patches = True is not of type"),
        ({"model.position": "absolute"}, "ModelConfig.position = 'absolute' is none of learned, sinusoidal, rotary"),
        ({"model.position": "rotary", "model.heads": 4}, "rotary positions need an even head size, not 7"),
        ({"objective": "next_patch"}, "next_patch needs causal attention and a gaussian read-out; the model has bidir"),
        ({"objective": "autoregressive"}, "RunConfig.objective = 'autoregressive' is none of masked"),
        ({"model.readout": "gaussian"}, "masked needs bidirectional attention and a value read-out"),
        ({"model.attention": "causal"}, "masked needs bidirectional .* the model has causal attention"),
    ],
)
def test_impossible_configs_are_refused_with_numbers(changes, message):
    with pytest.raises(ValueError, match=message):
        make_config(**changes)


def test_an_int_where_a_float_belongs_gives_the_same_identity():
    whole = make_config(**{"data.real_fraction": 1, "optim.weight_decay": 0})
    assert whole.run_id == make_config(**{"data.real_fraction": 1.0, "optim.weight_decay": 0.0}).run_id
    assert RunConfig.from_json(to_json(whole)).run_id == whole.run_id


def test_the_name_of_an_option_is_the_option():
    """A name that equals an option without being it would act as another, since options are compared by identity."""
    named = make_config(**{"model.tokens": "time", "model.position": "learned", "objective": "masked"})
    assert named == make_config() and named.model.tokens is Tokens.TIME and named.model.tokens_per_record == 50


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("config_*.json")), ids=lambda path: path.stem)
def test_configs_of_every_schema_are_read_and_keep_their_identity(path):
    """Never edited: each is what an ecg-jax of that schema wrote, with the identity that it gave."""
    golden = json.loads(path.read_text())
    config = RunConfig.from_json(golden["config"])
    assert (config.run_id, config.trunk_id) == (golden["run_id"], golden["trunk_id"])
    assert RunConfig.from_json(json.loads(json.dumps(config.stored()))) == config


def test_there_is_a_golden_config_of_this_schema():
    assert (GOLDEN / f"config_{SCHEMA}.json").exists()


@dataclasses.dataclass(frozen=True)
class Grown(OptimConfig):
    """An optimiser of the next schema."""

    momentum: float = added(SCHEMA + 1, 0.9)


def test_a_field_that_comes_later_changes_no_identity():
    old = OptimConfig(learning_rate=1e-3)
    assert fingerprint(to_json(Grown(learning_rate=1e-3))) == fingerprint(to_json(old))
    assert codec.from_json(Grown, to_json(old), SCHEMA + 1) == Grown(learning_rate=1e-3)
    other = Grown(learning_rate=1e-3, momentum=0.5)
    assert fingerprint(to_json(other)) != fingerprint(to_json(old))
    assert codec.from_json(Grown, to_json(other), SCHEMA + 1) == other


def test_a_newer_config_is_refused_with_both_schemas():
    tree = {"schema": SCHEMA + 1, **to_json(Grown(learning_rate=1e-3, momentum=0.5))}
    with pytest.raises(
        ValueError, match=rf"unknown fields \['momentum'\].*schema {SCHEMA + 1} .* up to {SCHEMA}: upgrade"
    ):
        codec.from_json(OptimConfig, tree, SCHEMA)


@pytest.mark.parametrize("schema", [0, "1", None, 1.0, True])
def test_a_schema_that_is_no_number_is_refused(schema):
    with pytest.raises(ValueError, match=r"RunConfig.schema = .* is no number from 1 on"):
        RunConfig.from_json({**make_config().stored(), "schema": schema})


def test_differences_name_the_leaf():
    other = dataclasses.replace(make_config(), seed=3)
    assert differences(to_json(make_config()), to_json(other)) == ["seed: 3 -> 0"]


def test_grid_and_zip_axes():
    axes = {"seed": [0, 1], "data.real_fraction": [0.0, 0.5]}
    product = sweep.grid(make_config(), axes)
    assert [(c.seed, c.data.real_fraction) for c in product] == [(0, 0.0), (0, 0.5), (1, 0.0), (1, 0.5)]
    assert [(c.seed, c.data.real_fraction) for c in sweep.zip_axes(make_config(), axes)] == [(0, 0.0), (1, 0.5)]
    with pytest.raises(ValueError, match="shorter"):
        sweep.zip_axes(make_config(), {"seed": [0, 1], "data.real_fraction": [0.0]})


def test_an_id_is_worked_out_once_and_is_no_part_of_a_config(monkeypatch):
    asked, fresh = make_config(), make_config()
    calls, before = [], configs.fingerprint
    monkeypatch.setattr(configs, "fingerprint", lambda tree: calls.append(tree) or before(tree))
    assert [asked.run_id, asked.trunk_id] * 3 == [asked.run_id, asked.trunk_id] * 3
    assert len(calls) == 2
    assert asked == fresh and hash(asked) == hash(fresh) and repr(asked) == repr(fresh)
    assert to_json(asked) == to_json(fresh) and {asked: 1}[fresh] == 1
    assert pickle.dumps(asked) == pickle.dumps(fresh)
    for other in (pickle.loads(pickle.dumps(asked)), copy.deepcopy(asked), dataclasses.replace(asked)):
        assert other == asked and other.run_id == asked.run_id
    assert dataclasses.replace(asked, seed=5).run_id not in (asked.run_id, asked.trunk_id)


def test_ids_stay_what_they_were():
    config = make_config()
    assert (config.run_id, config.trunk_id) == ("b9cf11a7c58a165f", "ff291142aec6adf8")
    assert config.run_id == fingerprint(to_json(config))  # of a dataclass and of its JSON alike


@pytest.mark.parametrize("field", ["width", "depth"])
@pytest.mark.parametrize("value", [1.0, True, [1], {"a": 1}, None, "1"])
def test_a_part_that_equals_another_only_in_value_is_refused(field, value):
    """Parts of configs are shared between equal trees; 1, 1.0 and True are equal to Python."""
    tree = to_json(make_config(**{"model.width": 1, "model.depth": 1, "model.heads": 1}))
    RunConfig.from_json(tree)
    tree["model"][field] = value
    with pytest.raises(ValueError, match=f"RunConfig.model.{field} = "):
        RunConfig.from_json(tree)


def test_equal_parts_of_many_configs_are_one():
    first, second = (RunConfig.from_json(to_json(make_config(seed=seed))) for seed in (0, 1))
    assert first.model is second.model and first.data is second.data and first.optim is second.optim


@pytest.mark.parametrize("fraction", [1e-9, 1e-7, 4.9e-7, 1e-6, 1 / 3, 0.999999, 0.9999999, 1 - 1e-9])
def test_a_real_fraction_is_never_pure_unless_it_is(fraction):
    ratio = make_config(**{"data.real_fraction": fraction}).data.ratio
    assert 0 < ratio < 1 and abs(ratio - Fraction(fraction)) < Fraction(fraction) / 1_000_000
    m = Mixture(0, 64, ratio, (9,))
    exact = [int(k * ratio) for k in (10**9, 3 * 10**9)]
    assert [sum(counts(m, k)[1:]) for k in (10**9, 3 * 10**9)] == exact  # no overflow


def test_pure_is_exactly_pure_and_almost_pure_is_refused():
    assert [make_config(**{"data.real_fraction": r}).data.ratio for r in (0.0, 1.0, 0.333333333)] == [
        0,
        1,
        Fraction(1, 3),
    ]
    for fraction in (1e-10, 1 - 1e-12, 5e-324):
        with pytest.raises(ValueError, match=r"less than one record in 1,000,000,000 from pure: give 0 or 1 if"):
            make_config(**{"data.real_fraction": fraction})
