"""What a finished run is in tables and words: its row, its model card."""
