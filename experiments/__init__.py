"""One module, one study: its question, its command, its hardware and time, its result."""
