"""The normal records of the generator against published norms."""
