"""Benchmarks: run by hand, results kept beside them."""
