"""Best size and data for a compute budget: `envelope` (approach 1), `isoflop` and `budgets` (2), `allocation` (3)."""
