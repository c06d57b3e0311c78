"""Folding adapters into the weights of their base, combining them, and exchanging them with other tools.

`merge` writes a normal model folder, shard by shard; `combine` makes one adapter of several; `from_peft` and `export` read and
write what others use. What each needs to know of a strategy it asks that strategy, through the protocols of
`base.strategy`. See docs/merging.md.
"""
