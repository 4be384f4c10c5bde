"""Small sources in memory, and the plain loop that a trainer is."""

import json

import torch

from wavefront.data import Column


class Rows:
    """A source whose rows are given: split -> rows."""

    path, shares = "memory", {}

    def __init__(self, columns, format="jsonl", **splits):
        self.columns = tuple(Column(name, kind) for name, kind in columns.items())
        self.format, self._splits = format, splits
        self.splits = tuple(splits)

    def rows(self, split="all"):
        return iter(self._splits[split])


def prepared(task, source, columns=None, **settings):
    columns = columns or task.claim(source, {}).columns
    made = task(settings, columns)
    made.prepare(source)
    return made


def trained(task, source, epochs, rate=0.01, batch=16, seed=0):
    """A network after so many epochs, in eval mode."""
    torch.manual_seed(seed)
    network = task.network()
    examples = [task.encode(row) for row in source.rows("train")]
    optimizer = torch.optim.Adam(network.parameters(), rate)
    for _ in range(epochs):
        for rows in torch.randperm(len(examples)).split(batch):
            loss, items = task.loss(network, task.collate([examples[i] for i in rows]))
            assert items > 0
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return network.eval()


def scored(task, network, rows):
    meter = task.meter()
    examples = [task.encode(row) for row in rows]
    for start in range(0, len(examples), 32):
        batch = task.collate(examples[start : start + 32])
        meter.add(batch, *task.assess(network, batch))
    return meter


def reloaded(task):
    """The task from its state, through JSON."""
    return type(task).from_state(json.loads(json.dumps(task.state(), allow_nan=False)))
