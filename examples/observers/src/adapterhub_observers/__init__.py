"""Plug-ins that watch training runs: `run_log` and `early_stop`."""
