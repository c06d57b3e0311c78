"""A reader a format: from files and objects to tables."""
