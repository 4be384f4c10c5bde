"""Outputs that are sequences, compared with every reference that their source has."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from typing import Any

__all__ = ["References"]


class References:
    """What was written for each source, and what might have been. Several references of one source are alternatives.

        word_error    share of the sources whose output is none of their references
        symbol_error  Σ edit distance to the nearest reference / Σ its length

    units  text -> the symbols that are counted: `list` for characters, `str.split` for what stands between blanks

    >>> seen = References(str.split)
    >>> seen.add("READ", "R EH D", "R IY D")
    >>> seen.add("READ", "R EH D", "R EH D")
    >>> seen.add("LEAD", "L EH", "L EH D")
    >>> seen.word_error, round(seen.symbol_error, 4)
    (0.5, 0.1667)
    """

    def __init__(self, units: Callable[[str], list[str]]):
        self.units = units
        self.found: dict[Hashable, tuple[str, list[str]]] = {}

    def add(self, source: Hashable, found: str, reference: str) -> None:
        """A source may come again, with another reference; what was found first stays."""
        self.found.setdefault(source, (found, []))[1].append(reference)

    def of(self, sources: Iterable[Hashable]) -> References:
        """Some of the sources alone."""
        some = References(self.units)
        some.found = {source: self.found[source] for source in sources}
        return some

    def wrong(self, source: Hashable) -> bool:
        found, references = self.found[source]
        return self.units(found) not in map(self.units, references)

    @property
    def word_error(self) -> float:
        return sum(map(self.wrong, self.found)) / len(self.found) if self.found else math.nan

    @property
    def symbol_error(self) -> float:
        from rapidfuzz.distance import Levenshtein

        edits = length = 0
        for found, references in self.found.values():
            written = self.units(found)
            pairs = [(Levenshtein.distance(written, gold), len(gold)) for gold in map(self.units, references)]
            nearest = min(pairs, key=lambda pair: pair[0] / max(1, pair[1]))
            edits, length = edits + nearest[0], length + nearest[1]
        return edits / length if length else math.nan

    def bleu(self, tokenize: str = "13a") -> tuple[float, str]:
        """BLEU over all sources, 0 to 100, and the signature that says how it was computed.  [Papineni et al. 2002; Post 2018, arXiv:1804.08771]"""
        from sacrebleu.metrics.bleu import BLEU

        metric: Any = BLEU(tokenize=tokenize, force=True)
        most = max((len(references) for _, references in self.found.values()), default=0)
        if not most:
            return math.nan, ""
        hypotheses = [found for found, _ in self.found.values()]
        streams = [[refs[k] if k < len(refs) else None for _, refs in self.found.values()] for k in range(most)]
        score = float(metric.corpus_score(hypotheses, streams).score)
        return score, str(metric.get_signature())
