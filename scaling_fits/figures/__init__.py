"""Figures: their `style`; of runs, laws, optima, and of what a fit leaves."""
