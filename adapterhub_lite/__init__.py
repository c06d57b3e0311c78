"""adapterhub_lite."""
