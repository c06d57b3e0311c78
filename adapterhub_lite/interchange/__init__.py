"""Adapters on their way to somebody else: as one file, on a hub, with a card. No torch here."""
