"""The synthetic normal records against published norms of the normal electrocardiogram, by sex and age.

python -m benchmarks.norms --out results/benchmarks/norms
python -m benchmarks.norms --out results/benchmarks/norms/version_3 --generator 3

A minute or two on two cores. Reads no recording: the norms are numbers of publications.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.harness.options import add_out
from benchmarks.harness.writing import PALETTE, new_figure, write_csv, write_figure
from ecg_jax.data.synthetic import Rhythm, Tier, only, recipe
from ecg_jax.data.synthetic.annotate.annotation import Annotated, annotate
from ecg_jax.data.synthetic.norms import AGE_GROUPS, MEASURES, Comparison, compare, coverage, measure, published
from ecg_jax.data.synthetic.physiology.sampling import Grid
from ecg_jax.data.synthetic.render import version_3

RATE_HZ = 500
#: Records rendered and measured at a time.
CHUNK = 512


def main() -> None:
    """Reads the options, renders, measures and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_out(parser, "norms")
    parser.add_argument("--records", type=int, default=4096, help="normal records to measure (default: 4096)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the records (default: 0)")
    parser.add_argument("--generator", type=int, choices=(2, 3), default=2, help="its version (default: 2)")
    options = parser.parse_args()
    if options.records < CHUNK:
        parser.error(f"--records is {options.records}: {CHUNK} at least, so that every age group has some")
    measured, is_female, age_years = measured_normals(options.seed, options.records, options.generator)
    compared = compare(measured, is_female, age_years)
    options.out.mkdir(parents=True, exist_ok=True)
    write_csv(table_of(compared, options.generator), options.out / "comparison.csv")
    write_csv(groups_of(measured, is_female, age_years, options.generator), options.out / "groups.csv")
    write_csv(coverage_of(), options.out / "coverage.csv")
    write_figure(figure(compared, options.generator), options.out / "norms")
    print(summary(compared))


def measured_normals(seed: int, records: int, generator: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """The measures of normal records in sinus rhythm without noise, their sex and their age; of version 2, tier T1c."""
    parts, patients = [], []
    for first in range(0, records, CHUNK):
        indices = np.arange(first, min(first + CHUNK, records))
        if generator == 2:
            rendered = annotate(seed, indices, recipe(Tier.CONDITIONS, only(Rhythm.SINUS)), RATE_HZ)
        else:
            rendered = normals_of_version_3(seed, indices)
        parts.append(measure(rendered))
        patients.append((rendered.patient["is_female"], rendered.patient["age_years"]))
    measured = {name: np.concatenate([part[name] for part in parts]) for name in MEASURES}
    is_female, age_years = (np.concatenate(column) for column in zip(*patients))
    return measured, is_female, age_years


def normals_of_version_3(seed: int, indices: np.ndarray) -> Annotated:
    """Normal records of version 3 without noise and recorder, in as far as they are measured."""
    bare = version_3.Recipe(noise=None, recorder=None)
    draft, _, clean, fiducials_s = version_3.records(seed, indices, bare, Grid(RATE_HZ, 10))
    nothing, none = np.zeros(len(indices), np.int32), ((),) * len(indices)
    return Annotated(
        ecg_mv=clean,
        clean_mv=clean,
        sample_rate_hz=RATE_HZ,
        fiducials_s=fiducials_s,
        beat=np.asarray(draft.train.beat),
        rhythm=nothing,
        morphology=nothing,
        met=none,
        scp_codes=none,
        spikes_visible=nothing > 0,
        patient={name: np.asarray(getattr(draft.patient, name)) for name in ("is_female", "age_years")},
    )


def table_of(compared: list[Comparison], generator: int) -> pd.DataFrame:
    """One row a published number."""
    return pd.DataFrame(
        {
            "measure": c.norm.measure,
            "unit": MEASURES[c.norm.measure],
            "sex": c.norm.sex,
            "age_from": c.norm.age_from,
            "age_to": c.norm.age_to,
            "statistic": c.norm.statistic,
            "published": c.norm.value,
            "generated": c.generated,
            "ratio": c.ratio,
            "is_met": "" if c.is_met is None else str(c.is_met).lower(),
            "records": c.records,
            "source": c.norm.source,
            "place": c.norm.place,
            "confidence": c.norm.confidence,
            "generator": generator,
        }
        for c in compared
    )


def groups_of(
    measured: dict[str, np.ndarray], is_female: np.ndarray, age_years: np.ndarray, generator: int
) -> pd.DataFrame:
    """The 2nd, 50th and 98th percentile of every generated measure by sex and age group, published or not."""
    rows = []
    for name, values in measured.items():
        for sex, of_sex in (("men", is_female < 0.5), ("women", is_female >= 0.5)):
            for low, high in AGE_GROUPS:
                chosen = values[of_sex & (age_years >= low) & (age_years < high + 1) & np.isfinite(values)]
                percentiles = np.percentile(chosen, (2, 50, 98)) if len(chosen) else [np.nan] * 3
                rows.append((name, MEASURES[name], sex, low, high, len(chosen), *percentiles, generator))
    columns = ["measure", "unit", "sex", "age_from", "age_to", "records", "p02", "p50", "p98", "generator"]
    return pd.DataFrame(rows, columns=columns)


def coverage_of() -> pd.DataFrame:
    """What is published for each measure, sex and age group."""
    cells = coverage()
    rows = [
        {
            "measure": name,
            **{
                f"{sex} {low}-{high}": cells[name, sex, (low, high)]
                for sex in ("men", "women")
                for low, high in AGE_GROUPS
            },
        }
        for name in MEASURES
    ]
    return pd.DataFrame(rows)


def figure(compared: list[Comparison], generator: int) -> Figure:
    """Ratios of generated to published numbers, a line a measure; the band is what is asked of a median."""
    shown = [c for c in compared if np.isfinite(c.ratio) and c.norm.statistic not in ("min", "max")]
    names = [name for name in MEASURES if any(c.norm.measure == name for c in shown)]
    drawing = new_figure(7.5, 0.24 * len(names) + 1.8)
    axes = drawing.subplots()
    kinds = (("medians and means", ("p50", "mean"), "o"), ("tails and spreads", ("p02", "p90", "p98", "sd"), "^"))
    sexes = {"men": PALETTE[0], "women": PALETTE[3], "both": PALETTE[6]}
    for label, statistics, marker in kinds:
        for sex, colour in sexes.items():
            of = [c for c in shown if c.norm.statistic in statistics and c.norm.sex == sex]
            places = [names.index(c.norm.measure) + {"men": -0.15, "women": 0.15, "both": 0.0}[sex] for c in of]
            ratios = np.clip([c.ratio for c in of], 0.0, 3.0)
            axes.scatter(ratios, places, s=22, marker=marker, color=colour, alpha=0.75, label=f"{label}, {sex}")
    axes.axvspan(0.9, 1.1, color="0.88", zorder=0)
    axes.axvline(1.0, color="0.5", linewidth=0.8, zorder=0)
    axes.set(yticks=range(len(names)), yticklabels=names, xlim=(-0.1, 3.1), ylim=(len(names) - 0.4, -0.6))
    axes.set_xlabel(f"generated / published (clipped to 0 to 3), generator version {generator}")
    drawing.legend(fontsize=7, loc="outside upper center", ncols=2)
    return drawing


def summary(compared: list[Comparison]) -> str:
    """How many of the published numbers are met, by how sure these are."""
    lines = []
    for confidence in sorted({norm.confidence for norm in published()}):
        decided = [c for c in compared if c.norm.confidence == confidence and c.is_met is not None]
        lines.append(f"{confidence}: {sum(bool(c.is_met) for c in decided)} of {len(decided)} within tolerance")
    covered = list(coverage().values())
    lines.append(
        f"cells of {len(MEASURES)} measures x 2 sexes x {len(AGE_GROUPS)} age groups: "
        + ", ".join(f"{covered.count(kind)} {kind}" for kind in ("percentiles", "part", "none"))
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
