"""Taggers without memory: what the score of a recurrent one is held against."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from itertools import islice

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from wavefront.tasks.inputs import padded

__all__ = ["fixed_length_tagger", "lonely_word_tagger"]

Example = dict[str, np.ndarray]
Guess = Callable[[Example], list[int]]


def shape_of(word: str) -> str:
    """How a word looks: its ending, whether it begins with a capital, and where digits and other signs are.

    >>> shape_of("1984"), shape_of("Walking"), shape_of("-")
    ('0000', 'X..ing', '-')
    """
    if any(letter.isdigit() for letter in word):
        return re.sub(r"\d", "0", re.sub(r"[^\W\d_]+", "x", word))
    if not word.isalpha():
        return word
    return ("X.." if word[0].isupper() else "x..") + word[-3:].lower()


def lonely_word_tagger(train: Iterable[Example], written: Callable[[Example], list[str]]) -> Guess:
    """The best that can be said of one word without its context: the label that it had most often in training; of a word that was never
    seen, the one most frequent among the words seen once that look like it; else the most frequent of all.
    """
    words: defaultdict[str, Counter[int]] = defaultdict(Counter)
    for example in train:
        for word, label in zip(written(example), example["labels"].tolist()):
            words[word][label] += 1
    shapes: defaultdict[str, Counter[int]] = defaultdict(Counter)
    every: Counter[int] = Counter()
    for word, labels in words.items():
        every.update(labels)
        if labels.total() == 1:
            shapes[shape_of(word)].update(labels)
    best = {word: labels.most_common(1)[0][0] for word, labels in words.items()}
    alike = {shape: labels.most_common(1)[0][0] for shape, labels in shapes.items()}
    usual = every.most_common(1)[0][0]
    return lambda example: [best.get(word, alike.get(shape_of(word), usual)) for word in written(example)]


class FixedLength(nn.Module):
    """A feed-forward network over sequences of one length, weights of its own for each position.  [Goodfellow et al. 2016, 10, introduction]

    H = tanh(Σ_t U_t e(x_t) + b)            o_t = V_t H + c_t            what was learned at one position says nothing about the others
    """

    def __init__(self, symbols: int, labels: int, steps: int, size: int = 16, units: int = 128):
        super().__init__()
        self.steps, self.labels = steps, labels
        self.table = nn.Embedding(symbols, size, padding_idx=0)
        self.U, self.V = nn.Linear(steps * size, units), nn.Linear(units, steps * labels)

    def forward(self, symbols: torch.Tensor) -> torch.Tensor:
        """symbols [B, steps] -> scores [B, steps, labels]"""
        return self.V(self.U(self.table(symbols).flatten(1)).tanh()).unflatten(1, (self.steps, self.labels))


def fixed_length_tagger(
    train: Iterable[Example], symbols: int, labels: int, longest: int = 64, examples: int = 4000, updates: int = 1500
) -> Guess:
    """`FixedLength`, trained for a few seconds; sequences are cut or filled up to the longest of training (64 at most)."""
    kept = [example for example in islice(train, examples) if len(example["symbols"])]
    steps = min(longest, max(len(example["symbols"]) for example in kept))
    x = F.pad(padded([example["symbols"][:steps] for example in kept]).long(), (0, steps))[:, :steps]
    y = F.pad(padded([example["labels"][:steps] for example in kept], -1).long(), (0, steps), value=-1)[:, :steps]
    usual = int(torch.bincount(y[y >= 0], minlength=labels).argmax())
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(0)
        network = FixedLength(symbols, labels, steps)
        optimizer = torch.optim.Adam(network.parameters(), lr=3e-3)
        for _ in range(updates):
            rows = torch.randint(len(x), (64,))
            loss = F.cross_entropy(network(x[rows]).flatten(0, 1), y[rows].flatten(), ignore_index=-1)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    @torch.no_grad()
    def guess(example: Example) -> list[int]:
        n = len(example["symbols"])
        row = F.pad(torch.from_numpy(example["symbols"][:steps]).long(), (0, max(0, steps - n)))
        return (network(row[None])[0].argmax(-1).tolist()[:n] + [usual] * n)[:n]

    return guess
