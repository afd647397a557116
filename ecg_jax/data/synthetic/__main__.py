"""Command line of the synthetic 12-lead ECG generator: draw, export and store records, list what there is.

A record is a pure function of tier, conditions, seed and index: the same command gives the same record.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np

from ecg_jax.data import ecg_plot
from ecg_jax.data.synthetic.annotate import export, page
from ecg_jax.data.synthetic.annotate.annotation import Annotated, annotate
from ecg_jax.data.synthetic.physiology import condition_mix, conditions
from ecg_jax.data.synthetic.physiology.condition_mix import ConditionMix
from ecg_jax.data.synthetic.physiology.conditions import Condition, Morphology, Rhythm
from ecg_jax.data.synthetic.render.source import BLOCK_RECORDS, RATES_HZ, SyntheticSource, render
from ecg_jax.data.synthetic.render.tiers import CONTENT, Recipe, Tier, recipe
from ecg_jax.terminal.command import command
from ecg_jax.terminal.stage import STDERR, Stage

MIXES = {"prevalence": condition_mix.PREVALENCE, "uniform": condition_mix.UNIFORM}
#: Each rhythm with a normal morphology and each morphology in sinus rhythm: 1 % of the records or more.
_EACH = ConditionMix(
    tuple(1.0 if rhythm is Rhythm.SINUS else 1.0 / (len(Rhythm) - 1) for rhythm in Rhythm),
    tuple(1.0 if morphology is Morphology.NORMAL else 1.0 / (len(Morphology) - 1) for morphology in Morphology),
)

#: Enough that a condition of 1 % is missed by one seed in 10^40.
_MOST_BLOCKS = 300

EXAMPLES = """examples:
  # one record as a sheet of paper (A4, 25 mm/s, 10 mm/mV): png, pdf or svg
  ecg-jax synthetic show --condition LBBB --tier T1d --out page.png

  # a rhythm and a morphology together, without noise, true onsets, peaks and offsets marked
  ecg-jax synthetic show --condition SINUS_BRADYCARDIA --condition RBBB --tier T1c --fiducials \\
      --out page.pdf

  # 100 records as WFDB with beat and wave annotations; conditions as frequent as in primary care
  ecg-jax synthetic export --out records/ --records 100 --mix prevalence

  # the same of three conditions in equal parts
  ecg-jax synthetic export --out records/ --records 30 --condition LBBB RBBB LAFB

  # a finite pool for training, preprocessed to 100 Hz: 1,000 patients with 2 recordings each
  ecg-jax synthetic store --out pool/ --patients 1000 --records-per-patient 2

  # every rhythm and morphology on one page; what there is
  ecg-jax synthetic contact --out contact.png
  ecg-jax synthetic list
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message} ({self.prog} --help shows examples)\n")


@command
def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command; 0 when it did what was asked, 2 with one line on stderr when the request is at fault."""
    options = _parser().parse_args(arguments)
    options.command(options)


def _parser() -> argparse.ArgumentParser:
    as_written = argparse.RawDescriptionHelpFormatter
    parser = _Parser(prog="ecg-jax synthetic", description=__doc__, formatter_class=as_written, epilog=EXAMPLES)
    commands = parser.add_subparsers(required=True, metavar="{show,export,store,contact,list}")
    show = commands.add_parser(
        "show",
        help="draw one record",
        description="Draw one record as a sheet.",
        formatter_class=as_written,
        epilog=EXAMPLES,
    )
    show.set_defaults(command=_show)
    show.add_argument("--index", type=int, default=0, help="which record (default: %(default)s)")
    show.add_argument("--fiducials", action="store_true", help="mark onset, peak and offset of P, QRS and T")
    write = commands.add_parser(
        "export",
        help="write WFDB records",
        description="Write WFDB records.",
        formatter_class=as_written,
        epilog=EXAMPLES,
    )
    write.set_defaults(command=_export)
    write.add_argument("--records", type=int, default=100, help="how many (default: %(default)s)")
    store = commands.add_parser(
        "store",
        help="store a finite pool for training",
        description="Render a finite pool once and store it, preprocessed, as ArrayRecord shards that TFDS opens.",
        formatter_class=as_written,
        epilog=EXAMPLES,
    )
    store.set_defaults(command=_store)
    store.add_argument("--patients", type=int, default=1000, help="how many (default: %(default)s)")
    store.add_argument("--records-per-patient", type=int, default=1, help="recordings of each (default: %(default)s)")
    for verb in (write, store):
        verb.add_argument("--mix", help="prevalence (as in primary care; the default) or uniform")
    contact = commands.add_parser(
        "contact",
        help="draw every condition",
        description="Draw every rhythm and morphology on one page.",
        formatter_class=as_written,
        epilog=EXAMPLES,
    )
    contact.set_defaults(command=_contact)
    for verb in (show, write, store):
        verb.add_argument(
            "--condition", nargs="+", action="extend", default=[], metavar="NAME", help="as `list` names them"
        )
    tiers = {show: Tier.ACQUISITION, write: Tier.ACQUISITION, store: Tier.ACQUISITION, contact: Tier.CONDITIONS}
    for verb, tier in tiers.items():
        verb.add_argument("--tier", default=tier.value, help="step of the realism ladder (default: %(default)s)")
        verb.add_argument("--seed", type=int, default=0, help="32 bits (default: %(default)s)")
        rate = 100 if verb is store else 500
        verb.add_argument("--rate", type=int, default=rate, help=f"Hz: one of {RATES_HZ} (default: {rate})")
        verb.add_argument("--out", type=Path, required=True, help="what to write; never written over")
    listing = commands.add_parser("list", help="conditions and tiers", description="List conditions and tiers.")
    listing.set_defaults(command=_list)
    return parser


def _show(options: argparse.Namespace) -> None:
    ecg_plot.check_path(options.out)
    tier, chosen = _common(options)
    for kind in (Rhythm, Morphology):
        of_kind = [condition.name for condition in chosen if isinstance(condition, kind)]
        if len(of_kind) > 1:
            raise ValueError(f"one record shows one {kind.__name__.lower()}, not {' and '.join(of_kind)}")
    if not 0 <= options.index < 2**64:
        raise ValueError(f"--index is {options.index}: from 0 to 2^64 - 1")
    made = recipe(tier, condition_mix.only(*chosen) if chosen else condition_mix.PREVALENCE)
    index = np.array([options.index], np.uint64)
    origin = f"tier {tier.value}, seed {options.seed}, record {options.index}"
    if tier is Tier.ECGSYN and options.fiducials:
        raise ValueError("--fiducials: tier T0 knows no onsets and offsets, they come with T1a")
    with Stage(f"rendering and drawing {origin}; the first record takes longest", STDERR):
        if tier is Tier.ECGSYN:
            title, ecg_mv = "ECGSYN", render(options.seed, index, made, options.rate)[0]
            figure = ecg_plot.draw(ecg_mv, options.rate, title=title, header=((origin,),), note=page.NOTE)
        else:
            annotated = annotate(options.seed, index, made, options.rate)
            title = page.title(annotated, 0)
            figure = page.page(annotated, 0, origin=origin, with_fiducials=options.fiducials)
        ecg_plot.save(figure, options.out)
    print(f"{options.out}: {title} ({origin})")


def _export(options: argparse.Namespace) -> None:
    export.check_folder(options.out)
    tier, chosen = _common(options)
    if options.records < 1:
        raise ValueError(f"--records is {options.records}: at least 1 is needed")
    mix = _mix(options, tier, chosen)
    if tier is Tier.ECGSYN:
        raise ValueError("export: tier T0 has no annotations to write, they come with T1a")
    with Stage("rendering", STDERR, "records") as advance:
        export.export(
            options.out,
            tier,
            recipe(tier, mix),
            records=options.records,
            seed=options.seed,
            sample_rate_hz=options.rate,
            progress=advance,
        )
    print(f"{options.out}: {options.records} records ({export.LABELS} holds their labels)")


def _store(options: argparse.Namespace) -> None:
    if options.out.exists():
        raise FileExistsError(f"{options.out} exists: a pool is never written over")
    tier, chosen = _common(options)
    source = SyntheticSource(
        options.seed,
        recipe(tier, _mix(options, tier, chosen)),
        options.rate,
        patients=options.patients,
        records_per_patient=options.records_per_patient,
    )
    from ecg_jax.data.synthetic.annotate.stored_pool import store_pool  # here: only this needs TFDS

    with Stage("rendering", STDERR, "records") as advance:
        store_pool(source, options.out, progress=advance)
    print(f"{options.out}: {len(source)} records of {options.patients} patients ({source.identity})")


def _mix(options: argparse.Namespace, tier: Tier, chosen: list[Condition]) -> ConditionMix:
    """How often each condition is drawn: as --mix names it, or those of --condition in equal parts."""
    if options.mix is not None and (chosen or options.mix not in MIXES):
        raise ValueError(f"--mix {options.mix}: one of {', '.join(MIXES)}, and not together with --condition")
    _refuse_conditions(tier, "--mix", options.mix is not None)
    return condition_mix.only(*chosen) if chosen else MIXES[options.mix or "prevalence"]


def _contact(options: argparse.Namespace) -> None:
    ecg_plot.check_path(options.out)
    tier, _ = _common(options)
    _refuse_conditions(tier, "contact", True)
    with Stage("looking for one of each", STDERR, "conditions") as advance:
        panels = _one_of_each(options.seed, recipe(tier, _EACH), options.rate, advance)
    ecg_plot.save(ecg_plot.contact_sheet(panels, options.rate), options.out)
    print(f"{options.out}: {len(panels)} conditions (tier {tier.value}, seed {options.seed})")


def _list(_: argparse.Namespace) -> None:
    lines = []
    for heading, kind in (("rhythms", Rhythm), ("morphologies", Morphology)):
        lines.append(f"{heading}:")
        for condition in kind:
            codes = ",".join(conditions.SCP_CODES[condition])
            lines.append(f"  {condition.name:26} {codes:16} {page.in_words(condition)}")
    lines += ["tiers:", *(f"  {tier.value:4} {CONTENT[tier]}" for tier in Tier)]
    print("\n".join(lines))


def _common(options: argparse.Namespace) -> tuple[Tier, list[Condition]]:
    """The tier and the conditions asked for. Raises ValueError for what no command can make."""
    tiers = {tier.value.lower(): tier for tier in Tier}
    tier = tiers.get(options.tier.lower())
    if tier is None:
        raise ValueError(f"unknown tier {options.tier!r}: there are {', '.join(tier.value for tier in Tier)}")
    if tier in (Tier.NOISE, Tier.FITTED):
        raise ValueError(
            f"tier {tier.value} is fitted to a pool of real records by fit_priors and drawn from Python, with "
            "render(..., fitted=priors); the command line has no pool"
        )
    if options.rate not in RATES_HZ:
        raise ValueError(f"--rate is {options.rate} Hz: one of {', '.join(map(str, RATES_HZ))}")
    if not 0 <= options.seed < 2**32:
        raise ValueError(f"--seed is {options.seed}: from 0 to 2^32 - 1")
    names = dict.fromkeys(name.upper() for name in getattr(options, "condition", ()))
    chosen = [conditions.named(name) for name in names]
    _refuse_conditions(tier, "--condition", bool(chosen))
    return tier, chosen


def _refuse_conditions(tier: Tier, what: str, asked: bool) -> None:
    if asked and tier not in (Tier.CONDITIONS, Tier.ACQUISITION):
        raise ValueError(f"{what}: tier {tier.value} has no conditions, they come with T1c and T1d")


def _one_of_each(
    seed: int, each: Recipe, sample_rate_hz: int, advance: export.Progress
) -> list[tuple[str, np.ndarray]]:
    """The first record of each condition alone: rhythms, then morphologies."""
    wanted = [(rhythm, Morphology.NORMAL) for rhythm in Rhythm]
    wanted += [(Rhythm.SINUS, morphology) for morphology in Morphology if morphology is not Morphology.NORMAL]
    found: dict[tuple[Rhythm, Morphology], tuple[str, np.ndarray]] = {}
    for block in range(_MOST_BLOCKS):
        made = annotate(seed, np.arange(block * BLOCK_RECORDS, (block + 1) * BLOCK_RECORDS), each, sample_rate_hz)
        for row in range(BLOCK_RECORDS):
            pair = Rhythm(int(made.rhythm[row])), Morphology(int(made.morphology[row]))
            if pair in wanted and pair not in found:
                found[pair] = (_panel_title(made, row), made.ecg_mv[row].copy())
        advance(len(found), len(wanted))
        if len(found) == len(wanted):
            return [found[pair] for pair in wanted]
    missing = ", ".join(" with ".join(part.name for part in pair) for pair in wanted if pair not in found)
    raise ValueError(f"seed {seed}: no {missing} among the first {_MOST_BLOCKS * BLOCK_RECORDS} records")


def _panel_title(annotated: Annotated, row: int) -> str:
    morphology = Morphology(int(annotated.morphology[row]))
    return page.title(annotated, row) if morphology is Morphology.NORMAL else page.in_words(morphology)


if __name__ == "__main__":
    raise SystemExit(main())
