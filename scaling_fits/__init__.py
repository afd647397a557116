"""Scaling laws from run tables: certified fits, open intervals, backtests, the protocol's contrasts, figures.

Works on any CSV and never imports `ecg_jax`. From the ground up, each room knowing only those before it:

- `files`, `errors`, `tables` (from a CSV to checked rows), `laws` (of size, data, mix and learning curve);
- `estimation` (from rows to a certified optimum) and, beside it, `compute_optimal` (approaches 1 to 3), `contrasts`
  (the protocol's), `convergence` (speed);
- `uncertainty` (bootstrap, profile, sandwich, bounds), and `fit`, which puts these together;
- `selection` (which law), `mixing` (the best mix), `posterior`;
- `planning` (what to run next), `figures`;
- `commands`, the command line.
"""
