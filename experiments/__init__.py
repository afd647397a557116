"""One module, one study: its question, its command, its hardware and time, its result."""

from ecg_jax.terminal.command import quiet_while_loading

quiet_while_loading()
