"""Packs killed at random moments, some of them while a checkpoint is written: the same tables in the end."""

import time

import numpy as np
import pytest
from support import demo_process

KILLS = 25
#: Long enough that so many kills fit in: 72 trunks.
ARGUMENTS = (*demo_process.ARGUMENTS, "--seeds", "12")


@pytest.mark.long
def test_many_kills_at_random_moments(tmp_path):
    demo_process.finish(tmp_path / "undisturbed", *ARGUMENTS, saving=True)
    out, rng = tmp_path / "killed", np.random.default_rng()
    seed = int(rng.integers(2**32))
    rng, kills, during_a_save = np.random.default_rng(seed), 0, 0
    while kills < KILLS:
        process = demo_process.start(out, *ARGUMENTS, saving=True)
        if kills % 2:  # every other one: in the midst of a save
            met = _kill_during_a_save(process, out)
            process.stdout.close()
            if not met:
                break
            kills, during_a_save = kills + 1, during_a_save + 1
        else:
            began = time.monotonic()
            if not demo_process.kill_after(process, rng.uniform(3, 20)):
                break
            kills += 1
            print(f"kill {kills} after {time.monotonic() - began:.1f} s")
    assert kills >= 20, f"only {kills} kills before the end (seed {seed})"
    assert during_a_save >= 1, f"no kill met a save (seed {seed})"
    demo_process.finish(out, *ARGUMENTS, saving=True)
    assert demo_process.results(out) == demo_process.results(tmp_path / "undisturbed"), f"seed {seed}"


def _kill_during_a_save(process, out) -> bool:
    """Kills as soon as a temporary checkpoint folder that was not there before is seen; says whether one was."""
    known = set(out.glob("store/*/packs/*/checkpoints/*tmp*"))
    while process.poll() is None:
        if set(out.glob("store/*/packs/*/checkpoints/*tmp*")) - known:
            process.kill()
            process.wait()
            return True
        time.sleep(0.0005)
    return False
