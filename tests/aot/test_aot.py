"""Compiled for TPUs on a CPU, in a process of its own: libtpu, once loaded, would be asked for every device."""

import importlib.util
import os
import subprocess
import sys

import pytest

from ecg_jax.aot import compile

ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1"}
needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="libtpu is not installed")


def run(*arguments, module="ecg_jax.aot.compile", **environment) -> subprocess.CompletedProcess:
    everything = {k: v for k, v in os.environ.items() if k not in ENVIRONMENT} | ENVIRONMENT | environment
    return subprocess.run([sys.executable, "-m", module, *arguments], env=everything, capture_output=True, text=True)


def compiled(**changes) -> compile.Compiled:
    given = {
        "topology": "v5e:4x4", "chips": 16, "parameters": 10**8, "batch_records": 1024, "argument_bytes": 10**8,
        "temporary_bytes": 10**9, "flops": 3e13, "xla_flops": 2e12, "memory_traffic": 1e9,
        "moved_bytes": 1e6, "weight_bytes": 4, "compile_seconds": 9.0,
    }  # fmt: skip
    return compile.Compiled(**given | changes)


def test_the_roofline_is_its_longest_part():
    assert compiled(flops=1e17).step_seconds == pytest.approx(1e17 / 16 / 197e12)
    assert compiled(temporary_bytes=10**10, parameters=1).step_seconds == pytest.approx(1.01e10 / 819e9)
    assert compiled(moved_bytes=1e11).step_seconds == pytest.approx(1e11 / 200e9)
    bounds = [
        compiled(**change).bound for change in ({"flops": 1e17}, {"temporary_bytes": 10**10}, {"moved_bytes": 1e11})
    ]
    assert bounds == ["arithmetic", "memory", "links"]
    assert compiled(parameters=10**10).gathered_bytes == pytest.approx(12e10 * 15 / 16)
    assert compiled(parameters=10**10, weight_bytes=2).gathered_bytes == pytest.approx(6e10 * 15 / 16)
    assert compiled(parameters=10**10, chips=1).gathered_bytes == 0
    table = compile.table([compiled(flops=1e17)], [2048.0], 3.0)
    hours = 2 * 1e17 / 197e12 / 3600
    assert table.chip_hours[0] == pytest.approx(hours) and table.cost[0] == pytest.approx(3 * hours)
    assert table.per_host[0] == pytest.approx(table.records_per_s[0] / 4)


def test_what_does_not_fit_is_told_with_numbers(capsys):
    assert compile.tell([compiled(), compiled(temporary_bytes=17 * 2**30)], [1.0, 1.0], 1.0) == 1
    assert "100,000,000 parameters do not fit v5e:4x4: 17.1 GiB per chip of 16" in capsys.readouterr().err
    assert compile.tell([compiled()], [1.0], 1.0) == 0


@pytest.mark.parametrize("name", ["v9:4x4", "v5e", "v5e:four", "../v5e:4x4", "0*v5e:4x4"])
def test_a_topology_that_is_none_is_refused(name):
    with pytest.raises(ValueError, match="is no topology: give one as v5e:4x4"):
        compile.devices_of(name)


def test_a_process_that_might_find_a_tpu_is_refused():
    done = run(JAX_PLATFORMS="")
    assert done.returncode == 2 and "set JAX_PLATFORMS=cpu before this command" in done.stderr


@needs_libtpu
def test_a_small_size_compiles():
    done = run("--topology", "v5e:2x2", "--sizes", "10000", "--batch", "32")
    assert done.returncode == 0, done.stderr[-2000:]
    row = dict(zip(*(line.split() for line in done.stdout.splitlines()[-2:]), strict=True))
    assert row["chips"] == "4" and row["fits"] == "True" and float(row["step_ms"]) > 0


@needs_libtpu
def test_a_small_size_compiles_for_two_slices():
    done = run("--topology", "2*v5e:2x2", "--sizes", "10000", "--batch", "32")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "2*v5e:2x2      8" in done.stdout


@needs_libtpu
def test_a_topology_that_cannot_be_is_refused():
    done = run("--topology", "v5e:3x5")
    assert done.returncode == 2 and "the topology v5e:3x5 cannot be made" in done.stderr


@pytest.mark.long
@needs_libtpu
@pytest.mark.parametrize("topology", ["v5e:16x16", "v5p:2x4x4", "v6e:4x4"])
def test_the_paper_scale_compiles_and_fits(topology):
    done = run("--preset", "tpu", "--aot", topology, module="experiments.mixed_vs_pure")
    print(done.stdout)
    assert done.returncode == 0, done.stderr[-2000:]
