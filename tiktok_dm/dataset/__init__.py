"""A dataset as a folder: rows, shards, card, report, and the checks of one that is there."""
