"""A study on disk: its layout, who may write it, its logs, its tables. Knows files, and no training."""
