"""`design`: which candidate runs make a quantity tightest under a budget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from scaling_fits.commands.answer import Answer, Work
from scaling_fits.commands.fitting import read_law_and_fit
from scaling_fits.commands.options import Options
from scaling_fits.commands.rows import Selection
from scaling_fits.compute_optimal.compute import SIX_N_D
from scaling_fits.errors import nearest
from scaling_fits.fit import Fit
from scaling_fits.laws.law import Law
from scaling_fits.laws.named import named_law
from scaling_fits.planning import design
from scaling_fits.planning.fisher_information import Quantity
from scaling_fits.tables.csv_file import read_csv
from scaling_fits.tables.run_table import require_columns
from scaling_fits.uncertainty.bootstrap import cluster_noise
from scaling_fits.uncertainty.profile_likelihood import CLUSTERS_MIN


def run(options: Options) -> Work:
    """`design`: which candidate runs make a quantity tightest under a budget."""
    of, do_fit = read_law_and_fit(options)
    quantity = _quantity(options.quantity, named_law(options.law))
    candidates, notes = _candidates(options, of)
    budget = options.budget

    def work() -> Answer:
        law = do_fit()
        chosen = design.next_runs(law, candidates, quantity, budget=budget, **_noise_of(law))
        return Answer(f"{law}\n\n{chosen}", chosen.to_dict(), (*of.notes, *notes))

    return work


def _noise_of(law: Fit) -> dict[str, Any]:
    """Standard deviations between rows and between trunks for a design, where the fitted rows share trunks."""
    if not CLUSTERS_MIN <= law.data.clusters < law.data.rows:
        return {}
    within, between = cluster_noise(law.observations, law.theta_KxP[0]).sds
    return {"noise_sd": within, "trunk_sd": between} if within > 0 else {}


def _candidates(options: Options, of: Selection) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """The runs that could be done, their columns named by the law's letters and `flops`, and how they were read.

    A letter's column is called as in the table of runs, or by the letter; compute as --c says, `flops`, or it is 6 N D.
    """
    frame, notes = read_csv(options.candidates)
    source = Path(options.candidates).name
    columns = {letter: column if column in frame else letter for letter, column in of.columns.items()}
    require_columns(frame, [of.columns[x] if x not in frame else column for x, column in columns.items()], source)
    chosen = frame.rename(columns={column: letter for letter, column in columns.items()})
    named = options.c or next((name for name in ("flops", "train_flops") if name in frame), None)
    if named is not None:
        require_columns(frame, [named], source)
        return chosen.assign(flops=frame[named]), notes
    if not {"N", "D"} <= set(of.columns):
        raise ValueError(f"{source}: no column of compute; name it with --c")
    flops = SIX_N_D.flops(chosen["N"].to_numpy(dtype=float), chosen["D"].to_numpy(dtype=float))
    return chosen.assign(flops=flops), (*notes, f"{source} has no column of compute: a run costs 6 N D FLOPs")


def _quantity(text: str, law: Law) -> Quantity:
    """`alpha`, or `L(N=1e8, D=1e6)`."""
    if not text.startswith("L("):
        if text not in law.names:
            raise ValueError(
                f"--quantity {text!r}: {law.name} has the constants {', '.join(sorted(law.names))}"
                f"{nearest([text], law.names)}, and a loss reads 'L(N=1e8, D=1e6)'"
            )
        return design.constant(text)
    inside = text.removeprefix("L(").removesuffix(")")
    try:
        at = {k.strip(): float(v) for k, v in (pair.split("=") for pair in inside.split(","))}
    except ValueError as error:
        raise ValueError(f"--quantity {text!r} must be a constant's name or like 'L(N=1e8, D=1e6)'") from error
    if set(at) != set(law.letters):
        raise ValueError(f"--quantity {text!r}: {law.name} needs exactly {', '.join(sorted(law.letters))}")
    return design.prediction(**at)
