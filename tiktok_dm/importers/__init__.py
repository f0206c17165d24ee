"""Datasets that come from elsewhere than compilations."""
