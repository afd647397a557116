"""What a command owes the person who started it: one line for an error, work saved when told to stop, and progress."""
