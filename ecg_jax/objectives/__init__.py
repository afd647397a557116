"""Pretraining objectives as pure functions."""
