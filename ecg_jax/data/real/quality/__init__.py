"""What a set is worth: its report, its measures, and recordings that stand in two sets."""
