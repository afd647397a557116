"""`contrasts`: the protocol's P1, P2 and, with curves and a target, P3."""

from __future__ import annotations

import json

from scaling_fits.commands.answer import Answer, Work, table_notes
from scaling_fits.commands.options import Options
from scaling_fits.commands.rows import columns_behind, select_rows
from scaling_fits.contrasts.contrasts import contrasts_json, protocol_contrasts
from scaling_fits.convergence.times import records_to_target
from scaling_fits.tables.csv_file import read_csv


def run(options: Options) -> Work:
    """`contrasts`: the protocol's P1, P2 and, with curves and a target, P3."""
    if (options.curve is None) != (options.target is None):
        raise ValueError("P3 needs both --curve and --target")
    n = columns_behind(options, {"N"})["N"]
    table = select_rows(options, positive=[n, "records_seen"])
    times = None if options.curve is None else records_to_target(read_csv(options.curve)[0], options.target)
    asks = {"mix": options.mix, "tier": options.tier, "times": times, "response": options.loss, "n": n}

    def work() -> Answer:
        slopes = protocol_contrasts(table, **asks)
        lines = [str(slope) for slope in slopes]
        lines.append(f"{len(table.rows)} rows; excluded: {table.excluded or 'none'}")
        return Answer("\n".join(lines), json.loads(contrasts_json(slopes)), table_notes(table))

    return work
