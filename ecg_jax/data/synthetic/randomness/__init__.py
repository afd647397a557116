"""Random numbers that depend on (seed, index) alone, on every device and in every batch."""
