"""From symbols to vectors: a table, and for words also the way they are written."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavefront.cell import Cell
from wavefront.networks.readout import LastStep
from wavefront.networks.recurrent import Bidirectional

__all__ = ["Symbols", "Words"]

PADDING, UNKNOWN = 0, 1  # as in data.Vocabulary


class Symbols(nn.Module):
    """A vector for each symbol: symbols [B, T] -> [B, T, size]. In training, a symbol that was seen n times is taken for an unknown one with
    probability rare / (rare + n), so that the vector of the unknown symbol is learned too.  [Kiperwasser & Goldberg 2016]

    counts  how often each symbol was seen, by its number; 0 is padding, 1 the unknown one
    """

    def __init__(self, counts: list[int], size: int, rare: float = 0.0):
        super().__init__()
        self.table = nn.Embedding(len(counts), size, padding_idx=PADDING)
        nn.init.normal_(self.table.weight, std=size**-0.5)
        with torch.no_grad():
            self.table.weight[PADDING].zero_()
        seen = torch.tensor(counts, dtype=torch.float)
        forget = rare / (rare + seen) if rare else torch.zeros(len(counts))
        forget[:2] = 0
        self.register_buffer("forget", forget, persistent=False)
        self.forget: Tensor
        self.outputs = size

    def forward(self, symbols: Tensor) -> Tensor:
        if self.training:
            symbols = symbols.masked_fill(torch.rand(symbols.shape, device=symbols.device) < self.forget[symbols], UNKNOWN)
        return self.table(symbols)


class Words(nn.Module):
    """Each word by what it is, a row of a table, and by how it is written: both directions over its characters.  [Ling et al. 2015]

    Each spelling of a batch is read once, however often it occurs in it:

        symbols   [B, T]  which word
        spelling  [B, T]  which of the n spellings below
        letters   [n, L], sizes [n]

    -> [B, T, outputs]. `cell` is a function (inputs, units) -> Cell for the letters, `dropout` that of the vectors of letters.
    """

    def __init__(
        self,
        counts: list[int],
        size: int,
        letters: int,
        letter_size: int,
        letter_units: int,
        cell: Callable[[int, int], Cell],
        rare: float = 0.0,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.words = Symbols(counts, size, rare)
        self.letters = nn.Embedding(letters, letter_size, padding_idx=PADDING)
        self.spell = Bidirectional(cell(letter_size, letter_units), cell(letter_size, letter_units))
        self.ends = LastStep(forward=self.spell.ahead.cell.outputs)
        self.dropout, self.outputs = dropout, size + self.spell.outputs

    def forward(self, symbols: Tensor, spelling: Tensor, letters: Tensor, sizes: Tensor) -> Tensor:
        read, _ = self.spell(F.dropout(self.letters(letters), self.dropout, self.training), lengths=sizes)
        written = self.ends(read, sizes)[spelling]
        return torch.cat([self.words(symbols), written], -1)
