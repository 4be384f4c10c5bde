"""Data sets as streams of rows: readers, the split, vocabularies, encoded examples on disk, batches by length."""

from wavefront.data.batching import batches
from wavefront.data.inputs import read_inputs
from wavefront.data.readers import Column, Options, words
from wavefront.data.source import GENERATORS, Source, open_source
from wavefront.data.store import Store
from wavefront.data.vocabulary import PADDING, UNKNOWN, Labels, Vocabulary

__all__ = [
    "GENERATORS",
    "PADDING",
    "UNKNOWN",
    "Column",
    "Labels",
    "Options",
    "Source",
    "Store",
    "Vocabulary",
    "batches",
    "open_source",
    "read_inputs",
    "words",
]
