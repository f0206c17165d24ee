"""Submissions, what they are held against, and the board."""
