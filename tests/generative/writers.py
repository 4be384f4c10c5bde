"""Small networks that write, and the languages they write in."""

import itertools

import torch
from torch import nn

from wavefront import cells
from wavefront.generative import Autoregressive, Categorical

UNITS = 6


def writer(ending="symbol", symbols=3, cell=cells.GRU, context=0, context_as="input", inputs=0, time_index=None, longest=8, seed=0):
    torch.manual_seed(seed)
    size = 4 + inputs + (2 if ending == "length" else 0) + (2 if time_index else 0) + (context if context_as != "state" else 0)
    output = Categorical(UNITS, symbols)
    with torch.no_grad():
        output.V.weight.mul_(3)
    return Autoregressive(
        cell(size, UNITS),
        output,
        reader=nn.Embedding(symbols, 4),
        ending=ending,
        longest=longest,
        context=context,
        context_as=context_as,
        inputs=inputs,
        time_index=time_index,
    ).double()


def all_sequences(symbols, longest):
    """Every sequence of 0..longest symbols, padded, with the lengths."""
    every = [s for n in range(longest + 1) for s in itertools.product(range(symbols), repeat=n)]
    y = torch.zeros(len(every), longest, dtype=torch.long)
    for row, s in enumerate(every):
        y[row, : len(s)] = torch.tensor(s, dtype=torch.long)
    return y, torch.tensor([len(s) for s in every])
