"""Training a pack: its step, its loop, its input, its checkpoints, and where its time goes."""
