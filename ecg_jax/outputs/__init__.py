"""What a finished run leaves: its row, its encoder, its model card."""
