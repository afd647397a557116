"""Programs compiled for machines that are not there, and what their collectives send."""
