"""The `d2m` command: thin, a module for each group of verbs."""
