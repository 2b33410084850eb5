"""Measurements: each script prints what the docs quote, and anyone can run it."""
