"""An output as a distribution: what the features o of a network say of the value y that comes next."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from wavefront.cell import map_draws
from wavefront.errors import ShapeError

__all__ = ["Output"]


class Output(nn.Module, ABC):
    """p(y | o): the readout V of a network, and the distribution that it gives the parameters of.  [Goodfellow et al. 2016, 6.2.2, 10.2]

    features  the size of o, what the network puts out at each step
    event     the shape of one y: () for a symbol (a whole number), (size,) for a vector

    o [..., features], y [..., *event]; any number of leading dimensions, so that all steps of a batch are done at once:

        log_prob(o, y)    log p(y | o), [...]
        sample(o)         y drawn from p(y | o); repeats with the same `noise`, which `noise(rows)` declares as a cell declares its draws
        mode(o)           the most probable y (its docstring says so where it is an approximation)
        read(y)           y as the vector [..., read_size] that the network is given at the next step
    """

    values = ""  # what y can be, in words, where `impossible` says what it cannot

    def __init__(self, features: int, event: tuple[int, ...]):
        super().__init__()
        self.features, self.event = features, event

    @abstractmethod
    def log_prob(self, o: Tensor, y: Tensor) -> Tensor: ...

    @abstractmethod
    def draw(self, o: Tensor, noise: Any) -> Tensor:
        """y, from the noise that this output declares."""

    @abstractmethod
    def mode(self, o: Tensor) -> Tensor: ...

    def noise(self, rows: int) -> Any:
        """What `sample` needs drawn for so many rows: `Draw`s; None where that cannot be said beforehand."""
        return None

    def sample(self, o: Tensor, noise: Any = None) -> Tensor:
        if noise is None:
            noise = map_draws(lambda d: d.sample((*o.shape[:-1], *d.shape[1:]), o), self.noise(1))
        return self.draw(o, noise)

    def expected(self, o: Tensor) -> Tensor:
        """The mean of p(y | o), through which gradients pass. Symbols have none: there it is their probabilities, [..., symbols]."""
        return self.mode(o)

    def given(self, context: Any) -> Output:
        """This output where the sequence was written from a context. Only one that copies from its source looks at it."""
        return self

    @property
    def read_size(self) -> int:
        return self.event[0]

    def read(self, y: Tensor) -> Tensor:
        return y

    def impossible(self, y: Tensor) -> Tensor | None:
        """Where y is no value that this output could have, [...]; None: any number is one."""
        return None

    def check(self, y: Tensor, leading: tuple[int, ...]) -> None:
        """Raises ShapeError unless y is [*leading, *event], whole numbers where y are symbols."""
        if tuple(y.shape) != (*leading, *self.event) or (not self.event and y.is_floating_point()):
            kind = "" if self.event else " of whole numbers"
            raise ShapeError(f"{type(self).__name__} expects y of {[*leading, *self.event]}{kind}, got {y.dtype} of {list(y.shape)}.")

    def extra_repr(self) -> str:
        return f"features={self.features}, event={self.event}"
