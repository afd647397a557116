"""What a fitted law says of the mix: `best_mix`, what `queries` ask of it, `synthetic_benefit`."""
