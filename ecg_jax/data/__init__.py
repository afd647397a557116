"""Where records come from: the record contract, preprocessing, real and synthetic sources, and their mixture."""
