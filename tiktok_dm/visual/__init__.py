"""Features of what is seen in a 2-second window: one contract, a file for each network behind it."""
