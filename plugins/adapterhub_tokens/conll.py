"""CoNLL files: a word and its tag on each line, sentences apart by blank lines.

What stands between the first field, the word, and the last, the tag, is kept as columns "field_2", "field_3", and so on.
The format is that of the CoNLL-2003 shared task (Tjong Kim Sang and De Meulder 2003).
"""

from __future__ import annotations

from array import array
from pathlib import Path

import pyarrow as pa

from adapterhub_lite.api import DataError, Table, counted, open_text, place, undecodable

DOCUMENT = "-DOCSTART-"


def read_conll(path: Path, source: str, sha256: str) -> Table:
    """Read a CoNLL file: a row a sentence, with lists as values.

    Raises:
        DataError: no sentence, or a line with more or fewer fields than the first one; names the line.
    """
    sentences: list[list[list[str]]] = []
    lines = array("q")
    fields = comments = 0
    inside = False
    try:
        with open_text(path, source) as file:
            for number, text in enumerate(file, start=1):
                parts = text.rstrip("\r\n").split("\t") if "\t" in text else text.split()
                if not text.strip() or parts[0] == DOCUMENT:
                    inside = False
                    continue
                if not inside and text.startswith("#") and (" = " in text or len(parts) != fields):
                    comments += 1
                    continue
                fields = fields or len(parts)
                where = place(source, len(sentences) - inside, number)
                if len(parts) != fields:
                    raise DataError(
                        f"{where}: has {counted(len(parts), 'field')} where the lines before have {fields}; write a word "
                        "and its tag on each line, with the same fields on all of them"
                    )
                if not all(part.strip() for part in parts):
                    raise DataError(f"{where}: has an empty field; write a word and its tag on each line")
                if not inside:
                    sentences.append([])
                    lines.append(number)
                    inside = True
                sentences[-1].append([part.strip() for part in parts])
    except UnicodeDecodeError as error:
        raise undecodable(path, source) from error
    if not sentences:
        raise DataError(f"{source}: holds no sentences; write a word and its tag on each line")
    names = ["words", *(f"field_{number}" for number in range(2, fields)), *(["tags"] if fields > 1 else [])]
    columns = {
        name: pa.array([[word[field] for word in sentence] for sentence in sentences], pa.list_(pa.utf8()))
        for field, name in enumerate(names)
    }
    notes = (f"{source}: {counted(comments, 'line')} beginning with # skipped",) if comments else ()
    return Table(source, pa.table(columns), sha256, lines, notes=notes)
