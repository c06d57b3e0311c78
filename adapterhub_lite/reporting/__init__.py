"""The page after a run: what was learnt, how good it is beside what costs nothing, and where it fails; of one or of several."""
