"""A tree as a picture: its words below, left to right, each node over its children with the label that it was given."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

__all__ = ["branches"]

LETTER, LEVEL, ROW, GAP, DOT = (
    7,
    34,
    15,
    10,
    2.5,
)  # pixels: a letter's width, between levels, of a line of text, between neighbours, of no label


def branches(
    parent: Sequence[int], words: Sequence[str | None], labels: Sequence[str | None], gold: Sequence[str | None] | None = None
) -> str:
    """Nodes by the numbers of their parents, -1 for the root, siblings in the order of their numbers. gold: the true labels, where they are known;
    a node that has another one is marked, and says so when it is pointed at.

    >>> branches([2, 2, -1], ["very", "good", None], ["2", "3", "4"]).count("<line")
    2
    """
    children: list[list[int]] = [[] for _ in parent]
    for node, above in enumerate(parent):
        if above >= 0:
            children[above].append(node)
    down = [parent.index(-1)]
    for node in down:  # it grows: each node before its children
        down += children[node]
    own = [GAP + LETTER * max(len(word or ""), len(label or "")) for word, label in zip(words, labels)]
    width = [*own]
    for node in reversed(down):
        width[node] = max(own[node], sum(width[child] for child in children[node]))
    left, level, x = [0.0] * len(parent), [0] * len(parent), [0.0] * len(parent)
    for node in down:
        at = left[node] + (width[node] - sum(width[child] for child in children[node])) / 2
        for child in children[node]:
            left[child], level[child] = at, level[node] + 1
            at += width[child]
    for node in reversed(down):
        x[node] = (x[children[node][0]] + x[children[node][-1]]) / 2 if children[node] else left[node] + width[node] / 2

    tall = LEVEL + ROW * any(word is not None and below for word, below in zip(words, children))

    def foot(node: int) -> float:
        """Where a node's own text ends."""
        return ROW + tall * level[node] + (4 if labels[node] is not None or words[node] is None else -10) + ROW * (words[node] is not None)

    body = []
    for node in down:
        top = ROW + tall * level[node]
        body += [
            f'<line class="branch" x1="{x[node]:.1f}" y1="{foot(node):.1f}" x2="{x[child]:.1f}" y2="{ROW + tall * level[child] - 12:.1f}"/>'
            for child in children[node]
        ]
        label, word = labels[node], words[node]
        if label is not None:
            wrong = gold is not None and gold[node] is not None and gold[node] != label
            title = f"<title>{escape(f'not {gold[node]}')}</title>" if wrong and gold is not None else ""
            body.append(f'<text class="middle {"wrong" if wrong else "right"}" x="{x[node]:.1f}" y="{top}">{escape(label)}{title}</text>')
        elif word is None:
            body.append(f'<circle class="point" cx="{x[node]:.1f}" cy="{top - 4}" r="{DOT}"/>')
        if word is not None:
            body.append(f'<text class="middle word" x="{x[node]:.1f}" y="{top + ROW * (label is not None)}">{escape(word)}</text>')
    wide, high = round(width[down[0]]), ROW + tall * max(level) + ROW + 6
    about = 'role="img" aria-label="a tree, the label of each node over its children"'
    return f'<svg class="square" viewBox="0 0 {wide} {high}" style="width:{wide}px" {about}>' + "".join(body) + "</svg>"
