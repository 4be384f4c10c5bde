"""`LSTM`, `GRU` and `RNN` with the faces of `torch.nn`'s: same constructors, parameters, checks and results; Wavefront's cells do the work."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Iterator
from functools import lru_cache
from operator import itemgetter
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence

from wavefront import cells
from wavefront.cell import Cell, advance
from wavefront.engine.operator import Opaque
from wavefront.structure import Sequence
from wavefront.unfolding import unfold

__all__ = ["GRU", "LSTM", "RNN"]

TORCHS_OWN = {"cuda"}  # devices for which torch has these very cells as one kernel (cuDNN)


class _Unfolded(Opaque, nn.RNNBase):
    """What the three share. All but `forward` is torch's own: the parameters and their start, the checks, pickling, `repr`."""

    backend: str = "auto"

    def __init__(self, *args: Any, backend: str = "auto", **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.backend = backend

    @abstractmethod
    def _cell(self, inputs: int, weights: dict[str, Tensor]) -> Cell:
        """The cell of one layer and direction, holding this module's parameters."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        """As torch's: input [T, B, input_size] ([B, T, ...] with batch_first; [T, input_size] alone), or a PackedSequence; hx the first state."""
        self._update_flat_weights()
        if self.backend == "auto" and (input.data if isinstance(input, PackedSequence) else input).device.type in TORCHS_OWN:
            return super().forward(input, hx)
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx)
        if input.dim() not in (2, 3):
            name, tensor = (self.mode, "") if self.mode in ("LSTM", "GRU") else ("RNN", " tensor")
            raise ValueError(f"{name}: Expected input to be 2D or 3D, got {input.dim()}D{tensor} instead")
        batched, batch_dim = input.dim() == 3, 0 if self.batch_first else 1
        if hx is not None:
            self._check_dims(hx, batched)
        if not batched:
            input = input.unsqueeze(batch_dim)
            hx = hx if hx is None else _map(lambda part: part.unsqueeze(1), hx)
        rows, steps = input.size(batch_dim), input.size(1 - batch_dim)
        hx = self._checked(input, hx, None, rows)
        if steps == 0:
            raise RuntimeError("Expected sequence length to be larger than 0 in RNN")
        if torch.compiler.is_compiling():
            output, *final = self._as_operator([input], list(hx) if self.mode == "LSTM" else [hx])
            hx = tuple(final) if self.mode == "LSTM" else final[0]
            return (output, hx) if batched else (output.squeeze(batch_dim), _map(lambda part: part.squeeze(1), hx))
        nodes = (input.transpose(0, 1) if self.batch_first else input).flatten(0, 1)
        nodes, hx = self._unfold(nodes, hx, rows, steps)
        output = nodes.reshape(steps, rows, nodes.shape[-1])
        output = output.transpose(0, 1) if self.batch_first else output
        return (output, hx) if batched else (output.squeeze(batch_dim), _map(lambda part: part.squeeze(1), hx))

    def _arguments(self, x: list[Tensor], state: list[Tensor], *_: Any) -> tuple[Any, ...]:
        return x[0], tuple(state) if self.mode == "LSTM" else state[0]

    def _results(self, x: list[Tensor]) -> list[Tensor]:
        (input,), directions = x, 2 if self.bidirectional else 1
        rows, units = input.shape[0 if self.batch_first else 1], self.proj_size or self.hidden_size
        output = input.new_empty((*input.shape[:2], directions * units))
        sizes = (units, self.hidden_size) if self.mode == "LSTM" else (units,)
        return [output, *(input.new_empty((directions * self.num_layers, rows, size)) for size in sizes)]

    def _forward_packed(self, input: PackedSequence, hx: Any) -> tuple[PackedSequence, Any]:
        data, sizes, ranked, unranked = input
        rows = int(sizes[0])
        hx = self._checked(data, hx if hx is None else self.permute_hidden(hx, ranked), sizes, rows)
        # the data of a PackedSequence are the nodes of a Sequence in the same order: front by front, the longest row first
        lengths = torch.searchsorted(-sizes, -torch.arange(rows))
        data, hx = self._unfold(data, hx, rows, len(sizes), lengths)
        return PackedSequence(data, sizes, ranked, unranked), self.permute_hidden(hx, unranked)

    def _check_dims(self, hx: Any, batched: bool) -> None:
        dims = 3 if batched else 2
        if hx.dim() != dims:
            kind = "batched" if batched else "unbatched"
            raise RuntimeError(f"For {kind} {dims}-D input, hx should also be {dims}-D but got {hx.dim()}-D tensor")

    def _checked(self, input: Tensor, hx: Any, sizes: Tensor | None, rows: int) -> Any:
        """The first state, zeros unless given, when everything has the shapes, dtype and device that torch asks for."""
        if hx is None:
            layers = self.num_layers * (2 if self.bidirectional else 1)
            h = input.new_zeros(layers, rows, self.proj_size or self.hidden_size)
            hx = (h, input.new_zeros(layers, rows, self.hidden_size)) if self.mode == "LSTM" else h
        elif self.mode == "LSTM" and len(hx) != 2:
            raise RuntimeError("lstm expects two hidden states")
        self.check_forward_args(input, hx, sizes)
        hidden = hx if self.mode == "LSTM" else (hx,)
        for name, tensors in (("hidden", hidden), ("parameter", self.parameters())):
            for tensor in tensors:
                if tensor.device != input.device:
                    raise RuntimeError(
                        f"Input and {name} tensors are not at the same device, found input tensor at {input.device} and {name} tensor at"
                        f" {tensor.device}"
                    )
                if tensor.dtype != input.dtype and not torch.is_autocast_enabled(input.device.type):
                    raise RuntimeError(
                        f"Input and {name} tensors are not the same dtype, found input tensor with {input.dtype} and {name} tensor with"
                        f" {tensor.dtype}"
                    )
        return hx

    def _unfold(self, nodes: Tensor, hx: Any, rows: int, steps: int, lengths: Tensor | None = None) -> tuple[Tensor, Any]:
        """All layers, both directions: [nodes, input_size] in the order of a forward `Sequence` -> outputs, the final state."""
        lines = [Sequence(rows, steps, lengths, reverse=back) for back in ((False, True) if self.bidirectional else (False,))]
        ways = [_turn(line, lengths) for line in lines]
        layers = self._layers()
        final: list[Any] = []
        for layer in range(self.num_layers):
            if layer > 0 and self.training:
                nodes = F.dropout(nodes, self.dropout)  # time first, as torch draws it: the same seed drops the same
            outputs = []
            for line, turn in zip(lines, ways):
                cell = self._cell(nodes.shape[-1], next(layers))
                output, state = self._one(cell, line, turn(nodes), _map(itemgetter(len(final)), hx))
                outputs.append(turn(output))
                final.append(state)
            nodes = torch.cat(outputs, -1) if len(outputs) > 1 else outputs[0]
        return nodes, tuple(map(torch.stack, zip(*final))) if self.mode == "LSTM" else torch.stack(final)

    def _one(self, cell: Cell, line: Sequence, nodes: Tensor, state: Any) -> tuple[Tensor, Any]:
        if line.rows == 0:  # one step over no rows: the gradients, all zero, still reach the parameters
            state, output = advance(cell, state, nodes)
            return output, state
        return unfold(cell, line, nodes, state, backend=self.backend)

    def _layers(self) -> Iterator[dict[str, Any]]:
        """The parameters of each layer and direction in turn, by torch's names without their "_l0" or "_l0_reverse"."""
        held = dict(zip(self._flat_weights_names, self._flat_weights))
        for names in self._all_weights:
            yield {name.rpartition("_l")[0]: held[name] for name in names}

    def layer_cells(self) -> list[Cell]:
        """The cell of each layer and direction in turn, holding this module's parameters."""
        return [self._cell(weights["weight_ih"].shape[1], weights) for weights in self._layers()]

    def extra_repr(self) -> str:
        return super().extra_repr() + (f", backend={self.backend!r}" if self.backend != "auto" else "")


class LSTM(_Unfolded, nn.LSTM):
    """`torch.nn.LSTM`, unfolded by Wavefront: the same constructor, parameters, `state_dict`, checks, outputs and gradients.

        i, f, g, o = W_ih x + b_ih + W_hh h + b_hh      c' = σ(f) ⊙ c + σ(i) ⊙ tanh(g)      h' = W_hr (σ(o) ⊙ tanh(c'))

    input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0, bidirectional=False, proj_size=0, device, dtype
    as in torch (W_hr only with a proj_size); backend as in `unfold`. Every check is torch's, with torch's words.

    >>> from wavefront import LSTM
    >>> net = LSTM(3, 5, num_layers=2, bidirectional=True)
    >>> output, (h, c) = net(torch.randn(7, 2, 3))
    >>> output.shape, h.shape, c.shape
    (torch.Size([7, 2, 10]), torch.Size([4, 2, 5]), torch.Size([4, 2, 5]))
    >>> theirs = torch.nn.LSTM(3, 5, num_layers=2, bidirectional=True)
    >>> theirs.load_state_dict(net.state_dict())
    <All keys matched successfully>
    """

    def _cell(self, inputs: int, weights: dict[str, Tensor]) -> Cell:
        cell = _template(cells.LSTM, inputs, self.hidden_size, projection=self.proj_size or None)
        linears = _summed(weights)
        if self.proj_size:
            linears["V"] = {"weight": weights["weight_hr"], "bias": None}
        return _holding(cell, linears)

    def _check_dims(self, hx: Any, batched: bool) -> None:
        dims, (h, c, *_) = 3 if batched else 2, hx
        if h.dim() != dims or c.dim() != dims:
            kind = "batched" if batched else "unbatched"
            raise RuntimeError(f"For {kind} {dims}-D input, hx and cx should also be {dims}-D but got ({h.dim()}-D, {c.dim()}-D) tensors")


class GRU(_Unfolded, nn.GRU):
    """`torch.nn.GRU`, unfolded by Wavefront: the same constructor, parameters, `state_dict`, checks, outputs and gradients.

        r, z = σ(W_ih x + b_ih + W_hh h + b_hh)      n = tanh(W_in x + b_in + r ⊙ (W_hn h + b_hn))      h' = (1 - z) ⊙ n + z ⊙ h

    input_size, hidden_size, num_layers=1, bias=True, batch_first=False, dropout=0.0, bidirectional=False, device, dtype as in torch;
    backend as in `unfold`. Every check is torch's, with torch's words.

    >>> from wavefront import GRU
    >>> output, h = GRU(3, 5, batch_first=True)(torch.randn(2, 7, 3))
    >>> output.shape, h.shape          # batch_first does not apply to states
    (torch.Size([2, 7, 5]), torch.Size([1, 2, 5]))
    """

    def _cell(self, inputs: int, weights: dict[str, Tensor]) -> Cell:
        return _holding(
            _template(cells.GRU, inputs, self.hidden_size),
            {way: {"weight": weights[f"weight_{name}"], "bias": weights.get(f"bias_{name}")} for way, name in (("U", "ih"), ("W", "hh"))},
        )


class RNN(_Unfolded, nn.RNN):
    """`torch.nn.RNN`, unfolded by Wavefront: the same constructor, parameters, `state_dict`, checks, outputs and gradients.

        h' = tanh(W_ih x + b_ih + W_hh h + b_hh)         or max(0, ·), with nonlinearity="relu"

    input_size, hidden_size, num_layers=1, nonlinearity="tanh", bias=True, batch_first=False, dropout=0.0, bidirectional=False, device,
    dtype as in torch; backend as in `unfold`. Every check is torch's, with torch's words.

    >>> from torch.nn.utils.rnn import pack_sequence
    >>> from wavefront import RNN
    >>> packed = pack_sequence([torch.randn(2, 3), torch.randn(6, 3)], enforce_sorted=False)
    >>> output, h = RNN(3, 5, nonlinearity="relu")(packed)
    >>> output.data.shape, h.shape
    (torch.Size([8, 5]), torch.Size([1, 2, 5]))
    """

    def _cell(self, inputs: int, weights: dict[str, Tensor]) -> Cell:
        return _holding(_template(cells.Elman, inputs, self.hidden_size, activation=self.nonlinearity), _summed(weights))


@lru_cache(maxsize=256)
def _template(kind: Any, inputs: int, units: int, **options: Any) -> Cell:
    """A cell without numbers, kept: the form that parameters are put into."""
    with torch._C._DisableFuncTorch(), torch.device("meta"):  # the first call may be inside vmap, which refuses to draw weights
        return kind(inputs, units, **options)


def _holding(cell: Cell, linears: dict[str, dict[str, Tensor | None]]) -> Cell:
    """A copy of the cell whose linear maps hold these tensors. A copy each time, so that calls in several threads never meet."""
    new = copy.copy(cell)
    new.__dict__["form"] = cell  # so that it is traced once, not in every call
    new._modules = dict(cell._modules)
    for name, tensors in linears.items():
        linear = copy.copy(cell.get_submodule(name))
        linear._parameters = tensors  # type: ignore[assignment]  # sums of parameters, or what a parametrisation made of them
        new._modules[name] = linear
    return new


def _summed(weights: dict[str, Tensor]) -> dict[str, dict[str, Tensor | None]]:
    """U and W of a cell that adds U x + W h: of torch's two biases only the sum counts (cuDNN wanted two)."""
    bias = weights["bias_ih"] + weights["bias_hh"] if "bias_ih" in weights else None
    return {"U": {"weight": weights["weight_ih"], "bias": bias}, "W": {"weight": weights["weight_hh"], "bias": None}}


def _turn(line: Sequence, lengths: Tensor | None) -> Callable[[Tensor], Tensor]:
    """Takes values in the order of a forward sequence to that of `line`, and back: turning twice changes nothing."""
    if not line.reverse:
        return lambda nodes: nodes
    if lengths is None:
        return lambda nodes: nodes.reshape(line.steps, line.rows, nodes.shape[-1]).flip(0).flatten(0, 1)
    front = torch.repeat_interleave(torch.from_numpy(line.sizes))
    places = torch.from_numpy(line.offsets)
    rank = torch.arange(line.nodes) - places[front]
    order = places[lengths[rank] - 1 - front] + rank
    return lambda nodes: nodes.index_select(0, order.to(nodes.device))


def _map(change: Callable[[Tensor], Tensor], hx: Any) -> Any:
    """Over the state of an LSTM, a pair, or the one tensor that others have."""
    return change(hx) if isinstance(hx, Tensor) else tuple(map(change, hx))
