"""The plain way, in the interpreter that has torch: `wfdb.rdrecord` behind a DataLoader.

Started by `benchmarks.reading`; for every line "RATE COUNT" on its input it reads so many records at random and answers
with wall and processor seconds.
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

os.environ.update({name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")})

import torch
import wfdb


class Records(torch.utils.data.Dataset):
    """Records by index, in millivolts."""

    def __init__(self, stems: list[str]):
        self.stems = stems

    def __len__(self) -> int:
        return len(self.stems)

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.from_numpy(wfdb.rdrecord(self.stems[index]).p_signal)


def main() -> None:
    """Answers until its input ends. Arguments: PTB-XL's folder, records per batch."""
    folder, batch = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    ends = {"100": "records100/*/*_lr.hea", "500": "records500/*/*_hr.hea"}
    stems = {rate: [str(path.with_suffix("")) for path in sorted(folder.glob(end))] for rate, end in ends.items()}
    print(torch.__version__, wfdb.__version__, flush=True)
    for line in sys.stdin:
        rate, count = line.split()
        records = Records(stems[rate])
        sampler = torch.utils.data.RandomSampler(records, replacement=True, num_samples=int(count))
        loader = torch.utils.data.DataLoader(records, batch_size=batch, sampler=sampler, num_workers=0)
        wall, processor = time.perf_counter(), time.process_time()
        seen = sum(len(batch) for batch in loader)
        print(time.perf_counter() - wall, time.process_time() - processor, seen, flush=True)


if __name__ == "__main__":
    main()
