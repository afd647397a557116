"""A module per published set of recordings, `any_folder` for all others, and what they share."""
