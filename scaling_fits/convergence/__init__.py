"""How fast a loss is reached: `times` from curves, `censored` regressions of them, `law_times` from fitted laws."""
