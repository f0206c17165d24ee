"""AIST++ as published, made a dataset."""
