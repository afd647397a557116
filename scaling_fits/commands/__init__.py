"""The command line: `command_line` (what may be asked), `options` (from that to rows and columns), `run`, `outputs`."""
