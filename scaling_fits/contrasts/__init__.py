"""The protocol's contrasts: paired differences, their `slopes` in size, and the `variance` of a study's parts."""
