"""Benchmarks against the servers people use today; ``python -m benchmarks --help``."""
