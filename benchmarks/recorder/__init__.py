"""Version 3's recorder and variability: what they cost beside version 2's, and what they look like."""
