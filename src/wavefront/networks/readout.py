"""From the states of a sequence to what is asked of it: hidden to output, at every step, at the last, or over all of them."""

from __future__ import annotations

from collections.abc import Sequence as Many

import torch
from torch import Tensor, nn

from wavefront.errors import SettingsError, ShapeError

__all__ = ["AttentionPooled", "EveryStep", "LastStep", "Pooled"]


class EveryStep(nn.Module):
    """An output at each step.  [Goodfellow et al. 2016, eq. 10.10, figure 10.3]

        o(t) = V h(t) + c

    h [B, T, inputs], lengths [B] or None -> o [B, T, outputs], zeros past the lengths.

    >>> EveryStep(5, 2)(torch.randn(3, 7, 5), lengths=[7, 4, 0]).shape
    torch.Size([3, 7, 2])
    """

    def __init__(self, inputs: int, outputs: int, bias: bool = True):
        super().__init__()
        self.V = nn.Linear(inputs, outputs, bias=bias)

    def forward(self, h: Tensor, lengths: Tensor | Many[int] | None = None) -> Tensor:
        there = _there(self, h, lengths, self.V.in_features)
        if lengths is None:
            return self.V(h)
        return self.V(h.masked_fill(~there, 0)).masked_fill(~there, 0)


class LastStep(nn.Module):
    """One output at the end: the state that has seen the whole sequence.  [Goodfellow et al. 2016, figure 10.5]

        r = h(τ)                        with both directions        r = [h(τ), g(1)]

    h [B, T, H], lengths [B] or None -> r [B, H]; zeros for a sequence of length 0.

    forward  how many of the H are the forward direction's, the default all; the rest are the backward direction's, which ends at step 1

    >>> h = torch.arange(6.).view(1, 3, 2)
    >>> LastStep()(h, lengths=[2]).tolist(), LastStep(forward=1)(h, lengths=[2]).tolist()
    ([[2.0, 3.0]], [[2.0, 1.0]])
    """

    def __init__(self, forward: int | None = None):
        super().__init__()
        self.ahead = forward

    def forward(self, h: Tensor, lengths: Tensor | Many[int] | None = None) -> Tensor:
        there = _there(self, h, lengths)
        ahead = h.shape[2] if self.ahead is None else self.ahead
        if not 0 <= ahead <= h.shape[2]:
            raise ShapeError(f"LastStep(forward={ahead}) expects h of [B, T, at least {ahead}], got {list(h.shape)}.")
        if h.shape[1] == 0:
            return h.new_zeros(h.shape[0], h.shape[2])
        tau = there.sum(1, keepdim=True).sub(1).clamp(min=0)  # [B, 1, 1]
        last = h.gather(1, tau.expand(-1, 1, h.shape[2])).squeeze(1)
        return torch.cat([last[:, :ahead], h[:, 0, ahead:]], 1).masked_fill(~there.any(1), 0)

    def extra_repr(self) -> str:
        return "" if self.ahead is None else f"forward={self.ahead}"


class Pooled(nn.Module):
    """All steps in one, unit by unit.  [Collobert et al. 2011, JMLR 12, section 3.3.2 (max); Lin et al. 2014, arXiv:1312.4400 (mean)]

        r = (1/τ) Σ h(t)       or       max h(t)       or       Σ h(t)       or       min h(t)            over t = 1..τ

    h [B, T, H], lengths [B] or None -> r [B, H]; zeros for a sequence of length 0.

    how  "mean", "max", "sum" or "min"

    >>> Pooled("max")(torch.tensor([[[1.], [3.], [9.]]]), lengths=[2]).tolist()
    [[3.0]]
    """

    def __init__(self, how: str = "mean"):
        super().__init__()
        if how not in ("mean", "max", "sum", "min"):
            raise SettingsError(f'Pooled(how) is "mean", "max", "sum" or "min"; got {how!r}.')
        self.how = how

    def forward(self, h: Tensor, lengths: Tensor | Many[int] | None = None) -> Tensor:
        there = _there(self, h, lengths)
        if h.shape[1] == 0:
            return h.new_zeros(h.shape[0], h.shape[2])
        if self.how in ("max", "min"):
            never = -torch.inf if self.how == "max" else torch.inf
            kept = h.masked_fill(~there, never)
            return (kept.amax(1) if self.how == "max" else kept.amin(1)).masked_fill(~there.any(1), 0)
        total = h.masked_fill(~there, 0).sum(1)
        return total / there.sum(1).clamp(min=1) if self.how == "mean" else total

    def extra_repr(self) -> str:
        return repr(self.how)


class AttentionPooled(nn.Module):
    """All steps in one, each as much as it matters.  [Yang et al. 2016, NAACL, eq. 5-7; Raffel & Ellis 2016, arXiv:1512.08756]

        e(t) = vᵀ tanh(W h(t) + b)        α = softmax(e(1), ..., e(τ))        r = Σ α(t) h(t)

    h [B, T, inputs], lengths [B] or None -> r [B, inputs]; zeros for a sequence of length 0. `weights(h, lengths)` is α [B, T].

    >>> pool = AttentionPooled(5, units=8)
    >>> h = torch.randn(2, 7, 5)
    >>> pool(h, lengths=[7, 4]).shape, pool.weights(h, lengths=[7, 4])[1, 4:].tolist()
    (torch.Size([2, 5]), [0.0, 0.0, 0.0])
    """

    def __init__(self, inputs: int, units: int):
        super().__init__()
        self.W, self.v = nn.Linear(inputs, units), nn.Linear(units, 1, bias=False)

    def forward(self, h: Tensor, lengths: Tensor | Many[int] | None = None) -> Tensor:
        alpha = self.weights(h, lengths)
        there = _there(self, h, lengths)
        return torch.bmm(alpha[:, None], h.masked_fill(~there, 0)).squeeze(1)

    def weights(self, h: Tensor, lengths: Tensor | Many[int] | None = None) -> Tensor:
        """α [B, T]: at least 0, its sum 1 over the real steps, 0 past them."""
        there = _there(self, h, lengths, self.W.in_features)
        e = self.v(self.W(h.masked_fill(~there, 0)).tanh()).squeeze(2)
        there = there.squeeze(2)
        # a row without a real step keeps finite numbers, for its gradients, until they are masked
        alpha = e.masked_fill(~there & there.any(1, keepdim=True), -torch.inf).softmax(1)
        return alpha.masked_fill(~there, 0)


def _there(readout: nn.Module, h: Tensor, lengths: Tensor | Many[int] | None, size: int | None = None) -> Tensor:
    """Where the real steps are, [B, T, 1]; refuses what does not fit."""
    name = type(readout).__name__
    want = "[B, T, " + ("H" if size is None else str(size)) + "]"
    if h.dim() != 3 or (size is not None and h.shape[2] != size):
        raise ShapeError(f"{name} expects h of {want}, the outputs of a network over sequences; got {list(h.shape)}.")
    rows, steps = h.shape[:2]
    if lengths is None:
        return torch.ones(rows, steps, 1, dtype=torch.bool, device=h.device)
    found = torch.as_tensor(lengths, device=h.device)
    if found.shape != (rows,) or found.is_floating_point() or found.dtype == torch.bool:
        raise ShapeError(f"{name} expects lengths of [{rows}], whole numbers, one per sequence; got {found.dtype} of {list(found.shape)}.")
    if rows and not 0 <= int(found.min()) <= int(found.max()) <= steps:
        raise ShapeError(f"{name}: lengths lie between 0 and the {steps} steps there are; got {int(found.min())} to {int(found.max())}.")
    return (torch.arange(steps, device=h.device) < found[:, None])[..., None]
