"""How good the defaults of training are: measured beside the linear probe and a grid of settings, on many small sets of data."""
