"""Training: the options of a run, the order of its batches, the loop, and the folder in which nothing is lost."""
