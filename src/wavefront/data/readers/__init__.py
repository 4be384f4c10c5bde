"""The formats that can be read: one file and one row each. The first that recognises a file reads it."""

from __future__ import annotations

from wavefront.data.readers.aligned import Aligned
from wavefront.data.readers.arrays import Arrays
from wavefront.data.readers.classes import Classes
from wavefront.data.readers.conll import Conll
from wavefront.data.readers.conllu import Conllu
from wavefront.data.readers.delimited import Csv, Tsv
from wavefront.data.readers.jsonl import Jsonl
from wavefront.data.readers.midi import Midi
from wavefront.data.readers.parallel import Parallel
from wavefront.data.readers.parquet import Parquet
from wavefront.data.readers.reader import Column, Options, Reader, Row
from wavefront.data.readers.rolls import Rolls
from wavefront.data.readers.sql import Sql
from wavefront.data.readers.text import Text, words
from wavefront.data.readers.trees import Trees
from wavefront.data.readers.ts import Ts
from wavefront.data.readers.ucr import Ucr

__all__ = ["READERS", "Column", "Options", "Reader", "Row", "words"]

READERS: tuple[type[Reader], ...] = (
    Csv,
    Trees,
    Rolls,
    Midi,
    Jsonl,
    Parquet,
    Arrays,
    Sql,
    Conllu,
    Ts,
    Ucr,
    Parallel,
    Aligned,
    Conll,
    Tsv,
    Classes,
    Text,
)
