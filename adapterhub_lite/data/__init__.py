"""Data: reading, checking, splitting and writing rows, without torch and without pandas.

`read_table` turns a file or an object into a `Table`, which knows the line each row stands on; one module a task turns
a table into a `Dataset`, checked row by row, so that bad data is refused before any model is loaded; `split` holds a
part of it out. `adapterhub_lite.tasks.load_data` is the way in.
"""

from adapterhub_lite.data.causal_lm import Chat, Completion, Message, Text
from adapterhub_lite.data.dataset import Dataset
from adapterhub_lite.data.images import open_image
from adapterhub_lite.data.pairs import Pair
from adapterhub_lite.data.readers import read_table
from adapterhub_lite.data.sampling import subsample
from adapterhub_lite.data.splits import split
from adapterhub_lite.data.table import Table
from adapterhub_lite.data.write import write_rows

__all__ = [
    "Chat",
    "Completion",
    "Dataset",
    "Message",
    "Pair",
    "Table",
    "Text",
    "open_image",
    "read_table",
    "split",
    "subsample",
    "write_rows",
]
