"""How sure the constants are: `bootstrap`, `profile_likelihood`, `sandwich` errors, and what lies beyond `bounds`."""
