"""What to run next: `design` by `fisher_information`, and how many runs a claim needs (`power`)."""
