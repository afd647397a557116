"""What studies share: their data, their analysis, their report."""
