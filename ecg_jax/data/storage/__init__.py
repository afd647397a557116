"""Records on disk: pools in one file, shards, WFDB."""
