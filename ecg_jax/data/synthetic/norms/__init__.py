"""Published norms of the normal electrocardiogram, a measurer of records, and the comparison of the two.

`published.csv` holds one number a row, with its source and where it stands there; `sources.csv` names the sources.
Nothing in it comes from PTB-XL. What no source covers has no row, and `coverage` says so.
"""

from ecg_jax.data.synthetic.norms.comparison import AGE_GROUPS, Comparison, compare, coverage
from ecg_jax.data.synthetic.norms.measure import MEASURES, measure
from ecg_jax.data.synthetic.norms.table import Norm, published, sources

__all__ = ["AGE_GROUPS", "MEASURES", "Comparison", "Norm", "compare", "coverage", "measure", "published", "sources"]
