"""Time left: nothing before a second measurement after compilation, and never off by what compiling took."""

import dataclasses
import io
import time

import pytest
from rich.console import Console
from support.configs import make_config

from ecg_jax.monitor import progress
from ecg_jax.monitor.progress import StudyProgress
from ecg_jax.scaling import cost, ladder
from ecg_jax.scaling.flops import train_flops_per_record
from ecg_jax.scaling.time_left import WARM_UP_STEPS, TimeLeft
from ecg_jax.study import sweep

SMALL = make_config(study="s", budget_records=64_000, batch_records=64)
LARGE = dataclasses.replace(SMALL, model=ladder.model_config(100_000))


def told(left: TimeLeft, config, seconds_of_steps, *, first=0, now=0.0) -> float:
    for step, seconds in enumerate(seconds_of_steps, first):
        now += seconds
        left.hear(config, step, now)
    return now


def test_nothing_is_said_before_a_second_measurement_after_compilation():
    left = TimeLeft([SMALL], 0)
    now = 0.0
    for step, seconds in enumerate([60.0, 1.0, *[0.1] * 5]):
        assert (left.left() != "") == (step >= WARM_UP_STEPS + 2), step
        now = told(left, SMALL, [seconds], first=step, now=now)
    assert left.left() == "about 99 s left"  # 993 of 1000 steps of 0.1 s


def test_a_second_program_that_compiles_changes_nothing():
    left = TimeLeft([SMALL, LARGE], 0)
    now = told(left, SMALL, [60, 1, *[0.1] * 998])
    larger = train_flops_per_record(LARGE.model) / train_flops_per_record(SMALL.model)
    assert left.left() == f"at most {cost.duration(100 * larger)} left, compiling aside"  # it uses the machine no worse
    now = told(left, LARGE, [300.0, 5.0], now=now)
    assert left.left().startswith("at most ")
    told(left, LARGE, [0.2] * 10, first=2, now=now)
    assert left.left() == "about 3.3 min left"  # 988 steps of 0.2 s


def test_what_lies_between_packs_and_cool_downs_is_not_counted():
    left = TimeLeft(sweep.grid(SMALL, {"seed": [0, 1]}), 0)
    now = told(left, SMALL, [60, 1, *[0.1] * 998])
    told(left, SMALL, [500.0, 1.0, 0.1, 0.1], now=now)  # the next one was loaded for minutes
    assert left.left() == "about 100 s left"


def test_the_members_of_a_pack_count_together():
    runs = sweep.grid(SMALL, {"seed": range(4)})
    left, now = TimeLeft(runs, 0), 0.0
    for step, seconds in enumerate([60, 1, *[0.1] * 98]):
        now += seconds
        for run in runs:
            left.hear(run, step, now)
    assert left.left() == "about 90 s left"


def test_more_work_than_was_planned_is_no_negative_time():
    left = TimeLeft([SMALL], 0)
    told(left, SMALL, [60, 1, *[0.1] * 1200])
    assert left.left() == "about 0 s left"


@pytest.fixture
def printed(monkeypatch):
    said = io.StringIO()
    monkeypatch.setattr(progress, "Console", lambda **options: Console(file=said, **options))
    monkeypatch.setattr(progress, "QUIET_SECONDS", 0.05)
    return said


def test_a_log_says_that_a_study_lives_while_it_compiles(printed):
    with StudyProgress([SMALL], []) as bars:
        until = time.monotonic() + 10
        while printed.getvalue().count("\n") < 2 and time.monotonic() < until:
            time.sleep(0.01)
        assert printed.getvalue().splitlines()[0] == "  0% 0/1 runs: the first step compiles"
        bars.on_step(SMALL, 0, 1.0)
        bars.on_step(SMALL, 1, 0.9)
        time.sleep(0.2)
    last = printed.getvalue().splitlines()[-1]
    assert "128 of 64000 records, loss 0.900" in last and last.endswith("time left: not known yet")
