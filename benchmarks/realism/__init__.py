"""Realism of the generator's tiers and of its peers against real recordings, all preprocessed alike."""
