"""Frozen features: encoded once, kept on disk by content, used by every solver and evaluation after."""
