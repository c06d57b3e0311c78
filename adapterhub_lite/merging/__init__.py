"""Folding adapters into the weights of their base, combining them, and exchanging them with other tools.

`merge` writes a normal model folder, shard by shard; `combine` makes one LoRA adapter of several; `from_peft`, `to_peft`
and `to_gguf` read and write what others use. See docs/merging.md.
"""
