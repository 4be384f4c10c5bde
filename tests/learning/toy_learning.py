"""A small problem to train on: a network with dropout, batches that differ from epoch to epoch, a loss, a score."""

import torch
from torch import nn

from wavefront.learning import Settings, Trainer

SETTINGS = Settings(epochs=4, batch_size=8, warmup=0.1, learning_rate=0.02, checkpoint_seconds=1e9)


def network() -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Dropout(0.3), nn.Linear(16, 1))


def data(rows: int = 96):
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(rows, 5, generator=generator)
    return x, (x[:, :1] * x[:, 1:2] + x[:, 2:3]).sin()


class Batches:
    """The batches of one epoch; `spoil` is called with the number of the batch before it is handed out."""

    def __init__(self, epoch, settings=SETTINGS, spoil=None):
        self.x, self.y = data()
        order = torch.randperm(len(self.x), generator=torch.Generator().manual_seed(1000 * settings.seed + epoch))
        self.rows, self.epoch, self.spoil = order.split(settings.batch_size), epoch, spoil

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, k):
        x, y = self.x[self.rows[k]], self.y[self.rows[k]]
        return self.spoil(self.epoch, k, x, y) if self.spoil else (x, y)

    def describe(self, k):
        return f"rows {self.rows[k][0]}, {self.rows[k][1]}, ..."


def trainer(folder, settings=SETTINGS, spoil=None, score=None, listen=lambda event: None, **options):
    """A trainer of the toy problem. `score` replaces the score, a function of the number of evaluations before."""
    torch.manual_seed(settings.seed)
    net = network()

    def loss(batch):
        x, y = batch
        return (net(x) - y).square().mean(), len(x)

    def evaluate():
        evaluate.times += 1
        torch.rand(3)  # an evaluation may draw; training must not feel it
        x, y = data()
        return {"rmse": (net(x) - y).square().mean().sqrt().item() if score is None else score(evaluate.times)}

    evaluate.times = 0
    options = {"evaluate": evaluate, **options}
    return Trainer(net, loss, lambda epoch: Batches(epoch, settings, spoil), settings, folder, metric="rmse", listen=listen, **options)


def weights(trainer):
    return {name: tensor.clone() for name, tensor in trainer.network.state_dict().items()}


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)
