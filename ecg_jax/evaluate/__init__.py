"""Evaluation on frozen real records."""
