"""Adapters to and from the hub, with their cards."""
