"""`power`: how many seeds per size, and trunks in all, claim a slope in ln N of a paired difference."""

from __future__ import annotations

from dataclasses import asdict

from scaling_fits.commands.answer import Answer, Work, table_notes
from scaling_fits.commands.options import Options, read_numbers
from scaling_fits.contrasts.contrasts import PAIRED_ON, paired_differences, select_arm, unpaired_runs
from scaling_fits.planning.power import Noise, Plan, noise_from_pilot, seeds_needed
from scaling_fits.tables.run_table import RunTable, read_runs


def run(options: Options) -> Work:
    """`power`: how many seeds per size, and trunks in all, claim a slope in ln N of a paired difference."""
    sizes, budgets = (read_numbers(f"--{name}", getattr(options, name)) for name in ("sizes", "budgets"))
    plan = Plan(sizes, budgets, 1, options.pool_draws, options.pool_draws > 1 and options.shared_reference)
    assumed = options.trunk_sd, options.residual_sd
    if (options.pilot is None) == (None in assumed) or (options.pilot and assumed != (None, None)):
        raise ValueError("the noise is either --trunk-sd and --residual-sd, or a --pilot table's")
    table = None if options.pilot is None else read_runs(options.pilot, positive=PAIRED_ON[:2])
    noise, unpaired = (Noise(*assumed), ()) if table is None else _pilot_noise(options.mix, table)
    asks = {name: getattr(options, name) for name in ("power", "alpha", "seeds_max", "seed")}
    slope = options.slope

    def work() -> Answer:
        found = seeds_needed(plan, noise, slope, **asks)
        return Answer(
            str(found), asdict(found) | {"firm": found.firm}, () if table is None else (*table_notes(table), *unpaired)
        )

    return work


def _pilot_noise(mix: float, table: RunTable) -> tuple[Noise, tuple[str, ...]]:
    """Noise of the pilot's differences, r = mix of its largest pool minus r = 0, at the upper 80 % limit.

    Beside it the runs that have no partner, counted by name.
    """
    mixed = select_arm(table, mix)
    if "unique_real_patients" in mixed.frame:
        mixed = mixed.where(unique_real_patients=mixed.rows["unique_real_patients"].max())
    draws = ["pool_shuffle"] if "pool_shuffle" in table.frame else []
    pure = select_arm(table, 0.0)
    alone = unpaired_runs(mixed, pure, labels=(f"r = {mix:g}", "r = 0"))
    return noise_from_pilot(paired_differences(mixed, pure, beside_a=draws), confidence=0.8), tuple(map(str, alone))
