"""Which law: `compare`, `nested` tests, `backtest` on rows held out, `admission` by a rule fixed in advance."""
