"""From rows to a certified optimum.

`observations` (and `suspicions`), or for learning curves `curve_problem`, make a `problem` with one of the
`estimators`; `solver` follows the points of `multistart`, and `certificate` says whether the best is an optimum. Beside
them regressions of dependent rows, for noise, contrasts and isoFLOPs: `clusters`, `random_intercept`.
"""
