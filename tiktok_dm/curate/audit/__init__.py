"""Leaks that a split table can't show: songs under two ids that sound the same, clips that appear twice."""
