"""Pages to hand to a colleague: one HTML file each, that needs no script and nothing outside of it."""
