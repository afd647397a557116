"""Scaling laws from run tables: certified fits, open intervals, backtests, the protocol's contrasts, figures.

Works on any CSV and never imports `ecg_jax`. Import from the modules: `from scaling_fits.fit import fit`.

- A law and its data: `form` (what a law is), `forms` `mixtures` `annealing` (the laws), `csv_file` `table`
  `observations` (from a CSV to arrays), `suspicions`, `estimators`.
- A fit: `starts` (bank, variable projection), `problem` `solver` (batched Newton), `certificate`, `bootstrap`,
  `profile`, `bounds`, `uncertainty`, `posterior`, and `fit`, which puts them together.
- Choosing: `compare` `nested` `backtest` `admission`.
- Compute: `allocation` (approach 3) `isoflop` `budgets` (2) `envelope` (1).
- The mix: `mix` `mixed_records` `synthetic_help`. What to run next: `design` `information` `power`.
- The protocol: `contrasts` `slopes` `mixed_effects` `variance`; speed: `convergence` `censored` `law_times`.
- Figures: `style`, `plots` (runs), `law_plots` `optimum_plots` `diagnostic_plots` (laws).
- The command line: `command_line` (what may be asked), `options` (from what is asked to rows and columns), `commands`,
  `outputs`, `refusal`.
"""
