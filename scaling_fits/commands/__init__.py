"""The command line: `command_line` says what may be asked, and `run_NAME` does what the command NAME is for.

Between them stand `options` (parsed, each looked at or refused), `rows` (from options to rows and columns), `fitting`
(to a law and how it is fitted), `outputs` (what may be written where), `figure` and `answer`.
"""
