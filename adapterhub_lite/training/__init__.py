"""Training: the options of a run, the order of its batches, and the loop."""
