"""Counting the memory that a run takes."""
