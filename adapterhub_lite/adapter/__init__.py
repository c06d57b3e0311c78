"""A trained adapter on its base: used, saved, loaded, verified."""
