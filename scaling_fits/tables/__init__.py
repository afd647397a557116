"""From a CSV to checked rows: `csv_file` (what the bytes say), `run_table` (which rows count, and why not)."""
