"""Reading records for training: Grain from our ArrayRecord shards, against `wfdb.rdrecord` in a torch DataLoader.

ECG_DATA_DIR=/path/to/real python -m benchmarks.reading --torch-python /path/to/torch/bin/python
    --out results/benchmarks/reading

About 2 minutes. Both sides are pinned to one core and take turns; see README.md for what is measured.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from pathlib import Path

from benchmarks.harness import machine
from benchmarks.harness.options import add_out


def main() -> None:
    """Reads the options, pins the process, and runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_out(parser, "reading")
    parser.add_argument("--data", type=Path, default=os.environ.get("ECG_DATA_DIR"), help="the folder with ptbxl/")
    parser.add_argument("--torch-python", help="an interpreter with torch and wfdb: the peer is left out without it")
    parser.add_argument("--rounds", type=int, default=5, help="rounds, each side once (%(default)s)")
    options = parser.parse_args()
    if options.data is None or not (Path(options.data) / "ptbxl" / "records100").is_dir():
        parser.error(f"--data {options.data} holds no ptbxl/records100; give the folder, or set ECG_DATA_DIR")
    machine.pin_to_one_core()
    from benchmarks.reading import reading_speed  # NumPy sizes its thread pools as it loads: only now

    worker = None
    if options.torch_python:
        command = [options.torch_python, "-W", "ignore", str(Path(__file__).with_name("reading_torch.py"))]
        command += [str(Path(options.data) / "ptbxl"), str(reading_speed.BATCH)]
        worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        reading_speed.run(Path(options.data), options.out, worker, options.rounds)
    finally:
        if worker is not None:
            worker.stdin.close()
            worker.wait()


if __name__ == "__main__":
    main()
