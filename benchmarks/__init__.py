"""Benchmarks of the synthetic source against its peers: speed (`synthetic`) and realism (`realism`)."""
