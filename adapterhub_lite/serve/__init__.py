"""Adapters behind HTTP."""
