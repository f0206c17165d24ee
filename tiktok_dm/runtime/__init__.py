"""Running steps whose outputs have content keys: store, ledger, executors, progress."""
