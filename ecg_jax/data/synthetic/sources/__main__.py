"""`python -m ecg_jax.data.synthetic.sources --out FOLDER`: beats of normal hearts and of each disease, as pictures."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from ecg_jax.data.synthetic.physiology.composition import TOGETHER
from ecg_jax.data.synthetic.physiology.conditions import Morphology
from ecg_jax.data.synthetic.sources.gallery import draw_beats, patients_by_age_and_sex, patients_with
from ecg_jax.terminal.command import command


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Draws one page of normal beats, one for each morphology, and one for each group of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder for the pictures; made if missing")
    parser.add_argument("--seed", type=int, default=0, help="which patients (default: %(default)s)")
    options = parser.parse_args(arguments)
    options.out.mkdir(parents=True, exist_ok=True)
    draw_beats(patients_by_age_and_sex(options.seed), options.out / "by_age_and_sex.png")
    for morphology in Morphology:
        draw_beats(patients_with((morphology,), options.seed), options.out / f"{morphology.name.lower()}.png")
    for group in TOGETHER:
        name = "_".join(shape.name.lower() for shape in group)
        draw_beats(patients_with(group, options.seed), options.out / f"{name}.png")


if __name__ == "__main__":
    raise SystemExit(main())
