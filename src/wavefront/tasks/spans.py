"""Labels that mark spans: IOB2 and BIOES, read strictly; and text with labelled character spans, cut into tokens and put together again."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

__all__ = ["Span", "Token", "follows", "iob2_of", "scheme_of", "spans_of", "tags_of", "tokens_of"]

Span = tuple[int, int, str]  # start, end (exclusive), label


class Token(NamedTuple):
    text: str
    start: int  # in characters
    end: int


def scheme_of(labels: Iterable[str]) -> str | None:
    """ "IOB2" or "BIOES" where every label is one of the scheme's, else None: the labels are then a class each (parts of speech, say).

    >>> scheme_of(["O", "B-city", "I-city"]), scheme_of(["O", "S-city", "B-city", "E-city"]), scheme_of(["NOUN", "VERB"])
    ('IOB2', 'BIOES', None)
    """
    prefixes = {"O" if label == "O" else label[:2] if len(label) > 2 else "?" for label in labels}
    if "B-" in prefixes and prefixes <= {"O", "B-", "I-"}:
        return "IOB2"
    if prefixes & {"S-", "B-"} and prefixes <= {"O", "B-", "I-", "E-", "S-"}:
        return "BIOES"
    return None


def iob2_of(labels: Sequence[str]) -> list[str]:
    """Labels of IOB1, where B marks only a span right behind another of its kind, as IOB2, where every span begins with B.

    >>> iob2_of(["I-a", "I-a", "B-a", "O", "I-b"])
    ['B-a', 'I-a', 'B-a', 'O', 'B-b']
    """
    before = ["O", *labels]
    return ["B-" + label[2:] if label[:2] == "I-" and last[2:] != label[2:] else label for last, label in zip(before, labels)]


def follows(before: str | None, after: str | None, scheme: str) -> bool:
    """May the label `after` stand behind `before`? None is the edge of the sequence.

    >>> follows("B-city", "I-city", "IOB2"), follows("O", "I-city", "IOB2"), follows("B-city", None, "BIOES")
    (True, False, False)
    """
    inside_after = after is not None and after[:2] in ("I-", "E-")
    if scheme == "IOB2":
        return not inside_after or (before is not None and before != "O" and before[2:] == after[2:])  # type: ignore[index]
    open_before = before is not None and before[:2] in ("B-", "I-")
    if open_before or inside_after:
        return bool(open_before and inside_after and before[2:] == after[2:])  # type: ignore[index]
    return True


def spans_of(labels: Sequence[str], scheme: str) -> set[Span]:
    """The spans of a sequence of labels, strictly: one that does not begin with B (or S), or in BIOES does not end with E (or S), is none.

    >>> sorted(spans_of(["B-a", "I-a", "O", "I-a", "B-b"], "IOB2"))
    [(0, 2, 'a'), (4, 5, 'b')]
    >>> sorted(spans_of(["S-a", "B-b", "E-b", "B-b", "I-b"], "BIOES"))
    [(0, 1, 'a'), (1, 3, 'b')]
    """
    found: set[Span] = set()
    start, kind = -1, ""  # of the span that is open; -1: none
    for position, label in enumerate([*labels, "O"]):
        prefix, name = label[:2], label[2:]
        goes_on = start >= 0 and prefix in ("I-", "E-") and name == kind
        if start >= 0 and not goes_on and scheme == "IOB2":
            found.add((start, position, kind))
        if not goes_on:
            start = -1
        if prefix == "S-":
            found.add((position, position + 1, name))
        elif prefix == "B-":
            start, kind = position, name
        elif prefix == "E-" and goes_on:
            found.add((start, position + 1, kind))
            start = -1
    return found


_PIECES = re.compile(r"[^\W\d_]+|\d+|[^\w\s]|_")


def tokens_of(text: str, pieces: str = "words") -> list[Token]:
    """Text cut into runs of letters, runs of digits, and single other signs ("words"); or into all its characters ("characters").

    >>> [token.text for token in tokens_of("In 2009, I paid 12€.")]
    ['In', '2009', ',', 'I', 'paid', '12', '€', '.']
    """
    if pieces == "characters":
        return [Token(letter, i, i + 1) for i, letter in enumerate(text)]
    return [Token(match.group(), match.start(), match.end()) for match in _PIECES.finditer(text)]


def tags_of(tokens: Sequence[Token], spans: Iterable[Span]) -> tuple[list[str], bool]:
    """IOB2 labels of the tokens for spans of characters, and whether every span begins and ends where a token does.

    A span that cuts a token takes the whole of it. Blanks at the ends of a span do not count.

    >>> tags_of(tokens_of("of May 2009."), [(3, 11, "date")])
    (['O', 'B-date', 'I-date', 'O'], True)
    """
    labels, exact = ["O"] * len(tokens), True
    for start, end, name in sorted(spans):
        inside = [i for i, token in enumerate(tokens) if token.start < end and token.end > start]
        if not inside:
            exact = False
            continue
        exact = exact and tokens[inside[0]].start >= start and tokens[inside[-1]].end <= end
        for i in inside:
            labels[i] = ("B-" if i == inside[0] else "I-") + name
    return labels, exact
