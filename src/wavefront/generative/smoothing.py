"""The likelihood of sequences of symbols, with a share of each target spread over all of them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from wavefront.errors import SettingsError
from wavefront.generative.ending import EndSymbol
from wavefront.generative.ensemble import Ensemble, Writer
from wavefront.generative.symbols import SymbolOutput

__all__ = ["smoothed_loss"]


def smoothed_loss(decoder: Writer, y: Tensor, lengths: Tensor, smoothing: float = 0.0, context: Any = None, state: Any = None) -> Tensor:
    """Cross-entropy against targets of which a share ε is spread over all K symbols, summed over all steps.  [Szegedy et al. 2016,
    arXiv:1512.00567, section 7]

        L = Σ_t -(1 - ε) log p(y(t)) - ε/K Σ_k log p(k)

    Without smoothing it is -log p(y), summed over the rows. Of a network whose end is a symbol. In training, members of an ensemble learn each
    on its own: theirs is the mean of their losses.
    """
    together = isinstance(decoder, Ensemble)
    if not smoothing and not (together and decoder.training):
        return -decoder.log_prob(y, lengths, context=context, state=state).sum()
    if isinstance(decoder, Ensemble):
        losses = [smoothed_loss(member, y, lengths, smoothing, c, s) for member, c, s in decoder.each(context, state)]
        return torch.stack(losses).mean()
    head = decoder.output.given(context)
    if not isinstance(decoder.ending, EndSymbol) or not isinstance(head, SymbolOutput):
        raise SettingsError("Label smoothing spreads a target over symbols: of a network that writes symbols, one of them its end.")
    o, _ = decoder.run(
        y, lengths, context=context, state=None if state is None else decoder.begin(len(y), None, context, state)[0], close=True
    )
    log_p = head.log_probs(o)
    t = torch.arange(o.shape[1], device=y.device)
    truth = F.pad(y, (0, 1)).masked_fill(t == lengths[:, None], decoder.ending.symbol)
    of_truth = log_p.gather(2, truth[..., None]).squeeze(2)
    each = (1 - smoothing) * of_truth + smoothing * log_p.mean(2)
    return -(each * (t <= lengths[:, None])).sum()
