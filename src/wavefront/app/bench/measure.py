"""The measuring: everybody in one process, turn by turn, so that a busy moment of the machine hits all alike."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode

from wavefront.app.bench.case import Case
from wavefront.app.bench.rivals import contenders
from wavefront.networks.recurrent import Recurrent

__all__ = ["WHAT", "Result", "bench", "machine"]

WHAT = ("train", "infer", "step")
SPENT = 0.5  # seconds: of what is short there are more runs, because the fastest of a few is a matter of luck
PAUSE = 0.003  # seconds: the threads of whoever ran before have stopped to wait in a loop


class Result(NamedTuple):
    """One case and one way of running it.

    precision        of Wavefront; everybody else, and the product, stay in float32
    fastest, median  milliseconds, by contender, and of one product of the same shape, [T·B, D] @ [D, gates·H]
    faster           how many times faster Wavefront is than each of the others, by the fastest runs
    of_product       Wavefront's share of the rate of that product, counting the arithmetic that is needed (no gradient of the input);
                     None for a single step
    first            seconds of Wavefront's first call in this process, compilation included
    """

    cell: str
    size: str
    precision: str
    what: str
    fastest: dict[str, float]
    median: dict[str, float]
    faster: dict[str, float]
    of_product: float | None
    first: float


def bench(
    cases: Iterable[Case], what: Sequence[str] = WHAT, runs: int = 7, beside: Sequence[str] | None = None, seconds: float = SPENT
) -> Iterator[Result]:
    """Measures case after case, beside all that there is or those named; everybody runs twice to warm up, then in turn, `runs` times at least
    and for as many seconds in all."""
    for case in cases:
        rivals = contenders(case, beside)
        forward, backward, columns = _arithmetic(case)
        product, operations = _product(case, columns)
        for way in what:
            runners = {name: rival[way] for name, rival in rivals.items() if way in rival}
            start = time.perf_counter()
            runners["wavefront"]()
            first = time.perf_counter() - start
            repeat = 50 if way == "step" else 1  # a step takes microseconds
            times = _interleaved(runners | {"product": product}, runs, repeat, seconds)
            fastest = {name: min(each) for name, each in times.items()}
            needed = forward + backward if way == "train" else forward
            share = (needed / fastest["wavefront"]) / (operations / fastest["product"])
            yield Result(
                cell=case.cell,
                size=str(case.size),
                precision=case.precision,
                what=way,
                fastest=fastest,
                median={name: statistics.median(each) for name, each in times.items()},
                faster={name: fastest[name] / fastest["wavefront"] for name in runners if name != "wavefront"},
                of_product=None if way == "step" else share,
                first=first,
            )


def machine() -> dict[str, Any]:
    """Where the figures are from."""
    cpu = Path("/proc/cpuinfo")
    models = (
        [line.partition(":")[2].strip() for line in cpu.read_text().splitlines() if line.startswith("model name")] if cpu.exists() else []
    )
    return {
        "processor": models[0] if models else platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def _interleaved(runners: dict[str, Callable[[], Any]], runs: int, repeat: int, seconds: float) -> dict[str, list[float]]:
    """Milliseconds of each run of each: the mean over `repeat` in a row."""
    for run in runners.values():
        run(), run()
    times: dict[str, list[float]] = {name: [] for name in runners}
    begun = time.perf_counter()
    while len(times["wavefront"]) < runs or time.perf_counter() - begun < seconds:
        for name, run in runners.items():
            often = 1 if name == "product" else repeat
            time.sleep(PAUSE)
            run()  # wakes its threads, and brings back to the caches what the others have put out
            start = time.perf_counter()
            for _ in range(often):
                run()
            times[name].append(1e3 * (time.perf_counter() - start) / often)
    return times


def _arithmetic(case: Case) -> tuple[float, float, int]:
    """Operations in products, forward and backward, of the whole case, counted on one step; and the columns of U and W, gates·H."""
    B, T, D, H = case.size
    net = Recurrent(case.make(), backend="reference")
    state = torch.utils._pytree.tree_map(lambda part: part.requires_grad_(), net.cell.initial_state(2))
    x = torch.randn(2, D)
    with FlopCounterMode(display=False) as counter:
        after, output = net.cell.step(state, x)
    forward = counter.get_total_flops()
    leaves = [part for part in torch.utils._pytree.tree_leaves((after, output)) if part.requires_grad]
    with FlopCounterMode(display=False) as counter:
        torch.autograd.backward([part.sum() for part in leaves])
    backward = counter.get_total_flops()
    return forward * B * T / 2, backward * B * T / 2, max(1, forward // (2 * 2 * (D + H)))


def _product(case: Case, columns: int) -> tuple[Callable[[], Any], float]:
    """[T·B, D] @ [D, columns], and its operations."""
    B, T, D, _ = case.size
    a, b = torch.randn(T * B, D), torch.randn(D, columns)
    return lambda: a @ b, 2 * T * B * D * columns
