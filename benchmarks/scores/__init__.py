"""The table of scores over every domain, and the curves of label efficiency; see `python -m benchmarks.scores --help`."""
