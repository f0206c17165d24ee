"""Score music made for dance: metrics, baselines, submissions, leaderboard, listening tests.

Not for building datasets (`tiktok_dm.pipeline`).
"""
