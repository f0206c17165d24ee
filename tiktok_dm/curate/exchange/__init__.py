"""Annotations for Label Studio and ELAN, and home again."""
