import subprocess
import sys

import pytest

from ecg_jax.config import Objective, Precision, Tokens
from ecg_jax.scaling import ladder
from ecg_jax.scaling.flops import parameters, train_flops_per_record


@pytest.mark.parametrize("size", ladder.RUNGS)
def test_rungs_hold_what_they_say(size):
    config = ladder.model_config(size)
    assert abs(parameters(config).blocks / size - 1) < 0.10
    assert config.width >= 48 or size < 30_000
    assert config.heads * config.head_size == config.width


def test_sizes_grow_along_the_ladder():
    counts = [parameters(ladder.model_config(size)).blocks for size in ladder.RUNGS]
    flops = [train_flops_per_record(ladder.model_config(size)) for size in ladder.RUNGS]
    assert counts == sorted(set(counts)) and flops == sorted(set(flops))


@pytest.mark.parametrize("size", [100, 0, -1_000_000])
def test_a_rung_that_does_not_exist_is_refused_with_those_that_do(size):
    with pytest.raises(ValueError, match=f"{size} parameters.*the rungs are 10k, 30k, .*, 300M, 1B"):
        ladder.model_config(size)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"sample_rate_hz": 500, "patch_ms": 201},
            r"10 s at 500 Hz is 49.7512 patches of 201 ms, each of 100.5 samples",
        ),
        ({"sample_rate_hz": 360, "patch_ms": 40}, "each of 14.4 samples: both must be whole"),
        ({"sample_rate_hz": 0}, "sample_rate_hz = 0, patch_ms = 200 and record_s = 10 must be positive"),
        ({"patch_ms": -200}, "patch_ms = -200"),
        ({"tokens": "leads"}, "ModelConfig.tokens = 'leads' is none of time, lead_time"),
    ],
)
def test_records_and_options_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        ladder.model_config(30_000, **changes)


def test_the_table_prints():
    lines = printed().splitlines()
    assert len(lines) == 2 + len(ladder.RUNGS)
    assert "1,061,775,360" in lines[-1] and lines[-1].split()[0] == "1B"
    config = ladder.model_config(30_000)
    assert lines[3].split()[1:6] == [
        str(config.width),
        str(config.depth),
        str(config.heads),
        "x",
        str(config.head_size),
    ]


def test_the_options_of_the_table_reach_it():
    options = {"sample_rate_hz": 500, "objective": Objective.NEXT_PATCH, "tokens": Tokens.LEAD_TIME}
    said = printed("--rate=500", "--objective=next_patch", "--tokens=lead_time", "--precision=bfloat16", "--batch=7")
    rungs = ladder.table(7, precision=Precision.BFLOAT16, **options)
    for line, row in zip(said.splitlines()[2:], rungs.itertuples(), strict=True):
        assert f"{row.n_total:,}" in line and f"{row.train_flops:.3e}" in line and line.endswith(f"{row.train_gib:.3g}")
    assert (rungs.tokens == 400).all()
    assert (ladder.table(7, **options).train_gib > rungs.train_gib).all()  # float32 holds more


def test_help_teaches_and_errors_are_short():
    text = printed("--help")
    for column in (*ladder.table().columns[1:3], "n_blocks", "n_embedding", "tokens", "GiB"):
        assert column in text
    with pytest.raises(subprocess.CalledProcessError) as caught:
        printed("--patch-ms=201")
    assert caught.value.stderr.splitlines()[-1].endswith("both must be whole")
    assert "Traceback" not in caught.value.stderr


def printed(*options) -> str:
    command = [sys.executable, "-m", "ecg_jax.scaling.ladder", *options]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout
