"""Readers of file formats, which know of no data set: WFDB, EDF, HDF5, tables, and what makes a signal unusable."""
