"""What a model is worth.

`heldout`, `response`, `baselines`   the held-out loss on frozen records, and reference lines
`heldout_parts`                      the loss by lead, part of the beat, and group of patients
`features`, `references`             features of encoders, ours and foreign, and what stands beside them
`labels`, `targets`, `question`      what is asked of records, and how they are split
`probe`, `attention`, `ridge`, …     how features are read
`metrics`, `intervals`, `judge`      figures, their uncertainty, and the rows of a task
`probe_task`                         a task under the contract of evaluators
`delineate`                          boundaries of waves, and a map from tokens to them
`report`, `command`                  tables, pages, and `ecg-jax evaluate`
`head`, `head_commands`              a head to take away
"""
