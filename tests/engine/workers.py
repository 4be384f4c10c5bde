"""Run by test_workers.py in a process of its own: networks in the workers of a loader, when the process that starts these has used several threads.

python workers.py fork|spawn
"""

import sys

import torch
from torch.utils.data import DataLoader, Dataset

from wavefront import LSTM, Recurrent, cells
from wavefront.engine import runs


class Learned(Dataset):
    """What each network says of x, the gradient of its first parameter, how often the compiled loop ran for it, and a step alone."""

    def __init__(self, nets, x):
        self.nets, self.x = nets, x

    def __len__(self):
        return len(self.nets)

    def __getitem__(self, n):
        net, x, before = self.nets[n], self.x, runs["compiled"]
        outputs, _ = net(x)
        (gradient,) = torch.autograd.grad(outputs.square().sum(), [next(net.parameters())])
        found = [torch.tensor(runs["compiled"] - before), outputs.detach(), gradient]
        if isinstance(net, Recurrent):
            with torch.no_grad():
                found.append(net.step(net.cell.initial_state(len(x)), x[:, 0])[1])
        return found


def main(method):
    torch.set_num_threads(3)
    torch.manual_seed(0)
    nets = [Recurrent(cells.LSTM(5, 40)), Recurrent(cells.GRU(5, 17)), LSTM(5, 24, batch_first=True)]
    learned = Learned(nets, torch.randn(8, 30, 5))
    expected = [learned[n] for n in range(len(nets))]
    found = [*DataLoader(learned, batch_size=None, num_workers=2, multiprocessing_context=method)]
    found += [learned[n] for n in range(len(nets))]  # the threads of this process still work
    for here, there in zip(expected + expected, found, strict=True):
        assert there[0] == 1, "the loop that ran is not the compiled one"
        for a, b in zip(here, there, strict=True):
            assert torch.allclose(a, b, rtol=1e-4, atol=1e-5), (method, a, b)


if __name__ == "__main__":
    main(sys.argv[1])
