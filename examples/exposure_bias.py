"""Exposure bias: a network that was only ever handed the truth does not know what to do with its own mistakes.

    python examples/exposure_bias.py [--updates N] [--seed N]

A point goes round a centre, near or far, and every position is seen with noise. The network is that of figure 10.4: it remembers nothing but the
last position. Handed the truth at every step (teacher forcing), it learns to hedge: a bit nearer to the centre than it was, since what it read is
partly noise. One step ahead that is best. But on its own it hedges at every step, and ends in the centre. A network that reads what it said itself,
ever more often (scheduled sampling) or always after the first position (open loop), learns to stay on its circle.

Bengio et al. 2015, "Scheduled Sampling for Sequence Prediction with Recurrent Neural Networks"; Goodfellow et al. 2016, section 10.2.1.
"""

import argparse
import time

import torch

from wavefront.generative import SCHEDULES, Autoregressive, Gaussian, OutputToHidden, coins

STEPS, AHEAD, UNITS, NOISE = 30, 60, 32, 0.5


def circles(rows: int, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions [rows, steps, 2], 0.3 radians a step, on circles of any radius (normal in each coordinate): as they are seen, and as they are."""
    angle = 0.3 * torch.arange(steps)
    x, y = torch.randn(2, rows, 1)
    clean = torch.stack([x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos()], -1)
    return clean + NOISE * torch.randn_like(clean), clean


def teacher_forcing(rows: int, steps: int, done: float) -> torch.Tensor:
    return coins(rows, steps, p=1.0)


def scheduled_sampling(rows: int, steps: int, done: float) -> torch.Tensor:
    return torch.maximum(coins(rows, steps, p=SCHEDULES["linear"](done, 1.0)), open_loop(rows, steps, done))


def open_loop(rows: int, steps: int, done: float) -> torch.Tensor:
    return (torch.arange(steps) <= 1).float().expand(rows, steps)  # the first position is read as it was seen


@torch.no_grad()
def run_on(net: Autoregressive, y: torch.Tensor, ahead: int) -> torch.Tensor:
    """The first values read, then as many as asked for, each the mean of what the network expects."""
    _, state = net.run(y)
    said = []
    for _ in range(ahead):
        state, o = net.step(state)
        said.append(net.output.expected(o))
        state = net.write(state, said[-1])
    return torch.stack(said, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.manual_seed(options.seed)
    seen, clean = circles(500, 1 + AHEAD)
    print(f"{'':20}  one step ahead   {AHEAD} steps on its own   radius there, of that at the start")
    for how in (teacher_forcing, scheduled_sampling, open_loop):
        torch.manual_seed(options.seed)
        begun = time.time()
        net = Autoregressive(OutputToHidden(2, UNITS), Gaussian(UNITS, 2), ending="given")
        optimiser = torch.optim.Adam(net.parameters(), 1e-2)
        for update in range(options.updates):
            y, _ = circles(64, STEPS)
            optimiser.zero_grad()
            log_p = net.forced(y, how(64, STEPS, update / options.updates), feed="expected")
            (-log_p.mean()).backward()
            torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimiser.step()
        with torch.no_grad():
            near = rmse(net.output.expected(net.run(seen)[0])[:, 1:], clean[:, 1:])
        said = run_on(net, seen[:, :1], AHEAD)
        print(
            f"{how.__name__.replace('_', ' '):20}  rmse {near:.3f}       rmse {rmse(said, clean[:, 1:]):.3f}             "
            f"{said[:, -1].norm(dim=-1).mean() / seen[:, 0].norm(dim=-1).mean():.2f}   ({time.time() - begun:.0f} s)"
        )


def rmse(said: torch.Tensor, true: torch.Tensor) -> float:
    return (said - true).square().mean().sqrt().item()


if __name__ == "__main__":
    main()
