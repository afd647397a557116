"""Best size and data for a compute budget: by `envelope` (approach 1), `isoflop` (2), or `allocation` of a law (3).

`compute` says what a run costs, `budgets` which runs share one; `parabola` and `akima` find the minima of isoFLOPs.
"""
