"""Scaling laws from run tables: fits with certificates, the protocol's contrasts, convergence speed, figures.

Works on any CSV and never imports `ecg_jax`. Import from the modules: `from scaling_fits.fit import fit`.
"""
