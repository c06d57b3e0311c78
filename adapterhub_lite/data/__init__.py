"""Data: reading, checking, splitting and writing rows, without torch and without pandas.

`files` turns a file or an object into a `Table`, which knows the line each row stands on; `roles` says which column is
what, and turns a table into a `Dataset`, checked row by row, so that bad data is refused before any model is loaded.
`splits` holds a part of it out. `adapterhub_lite.tasks.catalog.read_data` is the way in.
"""
