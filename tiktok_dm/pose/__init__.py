"""Poses of every dancer in a clip: estimator contract, skeletons, tracking."""
