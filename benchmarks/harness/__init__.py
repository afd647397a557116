"""What all benchmarks share: the machine, timing in turns, and writing results."""
