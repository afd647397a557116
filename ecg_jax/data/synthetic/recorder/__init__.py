"""Electrodes and the recorder: noise, filters, counts."""
