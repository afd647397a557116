"""Generators that are fitted to real recordings, and the name of the pool that they know."""
