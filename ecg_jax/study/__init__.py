"""Doing a study: which runs, which of them together, in what order, within what time."""
