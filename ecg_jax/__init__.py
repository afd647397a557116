"""Pretraining of ECG foundation models on mixed synthetic and real recordings, and the axes of its scaling laws."""
