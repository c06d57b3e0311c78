"""Time series with a class or a number each: files of the UCR and UEA archives, arrays, and tables, wide or long.

    dataset = read_classification("GunPoint_TRAIN.ts")
    dataset = read_regression("engines.csv", columns={"series": "unit", "time": "cycle"}, windows=Windows(30))

An input is a float32 array (time, channels), NaN where a value is missing; lengths may differ. What is read:

- .ts files of aeon and sktime; .arff files of the archives; their .tsv files, which have no header;
- .npz files: `x` (n, time) or (n, time, channels), `y`, and what `npz_file` says;
- wide tables, a row a series: numbered columns (t0, t1, ...; several families of them are channels), or columns of lists;
- long tables, a row a time step: rows with the same id are a series, in order of their time, and columns of numbers that
  have no other role are channels. A label or target stands on the rows of its series; with `Windows`, one a row.

The roles of columns are "label" or "target", "series" (an id), "time", "group" (a person, a machine: what must not be both
trained on and held out) and "channels" (several, with commas). Those not given are guessed from names.
"""

from adapterhub_series.data.read import (
    channels_of,
    columns_there,
    groups_of,
    read_classification,
    read_regression,
)
from adapterhub_series.data.windows import Windows

__all__ = [
    "Windows",
    "channels_of",
    "columns_there",
    "groups_of",
    "read_classification",
    "read_regression",
]
