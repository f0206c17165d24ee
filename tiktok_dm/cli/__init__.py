"""The `tiktok-dm` command: thin, a module for each group of verbs."""
