"""The folder of a run: its layout, log, checkpoints and trackers."""
