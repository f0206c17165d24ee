"""Sound as points whose distribution can be compared."""
