"""Folding adapters into the weights of their base, combining them, and exchanging them with other tools.

`merge` writes a normal model folder, `combine` makes one adapter of several, `from_peft` and `export` read and write what
other tools use. See docs/merging.md.
"""
