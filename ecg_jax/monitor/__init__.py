"""Looking at work as it goes on: status, progress, and what other programs show of it."""
