"""Linear-chain conditional random field: a readout that scores whole sequences of labels.  [Lafferty et al. 2001; Collobert et al. 2011]"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from wavefront.errors import ShapeError

__all__ = ["CRF"]


class CRF(nn.Module):
    """The probability of a sequence of labels y given the scores o of each label at each position.

        s(y) = start[y₁] + Σ_t o_t[y_t] + Σ_t A[y_{t-1}, y_t] + end[y_τ]        log p(y) = s(y) - log Σ_y' exp s(y')

    labels  K
    allowed [K + 1, K + 1] of bool: `allowed[i, j]`, may label j follow label i; index K is the edge (start as i, end as j). What is not
            allowed is never decoded; in training it keeps its learned score, so that labels that break the rules can still be learned from.

    Sequences of length 0 have log-likelihood 0 and decode to nothing.

    >>> crf = CRF(3)
    >>> scores, labels = torch.zeros(1, 2, 3), torch.tensor([[2, 0]])
    >>> with torch.no_grad():
    ...     for p in crf.parameters(): _ = p.zero_()
    >>> round(crf(scores, labels, torch.tensor([2])).exp().item(), 4)     # nine sequences, all alike
    0.1111
    """

    def __init__(self, labels: int, allowed: Tensor | None = None):
        super().__init__()
        self.labels = labels
        self.start, self.end = nn.Parameter(torch.empty(labels)), nn.Parameter(torch.empty(labels))
        self.A = nn.Parameter(torch.empty(labels, labels))
        for p in self.parameters():
            nn.init.uniform_(p, -0.1, 0.1)
        allowed = torch.ones(labels + 1, labels + 1, dtype=torch.bool) if allowed is None else allowed
        if allowed.shape != (labels + 1, labels + 1):
            raise ShapeError(f"CRF({labels}) expects allowed of {[labels + 1] * 2} (the edge comes last), got {list(allowed.shape)}.")
        self.register_buffer("allowed", allowed, persistent=False)
        self.allowed: Tensor

    def forward(self, scores: Tensor, labels: Tensor, lengths: Tensor) -> Tensor:
        """Log-likelihood of each sequence: scores [B, T, K], labels [B, T] (anything past the lengths), lengths [B] -> [B]."""
        self._check(scores, lengths)
        return self.score(scores, labels, lengths) - self.log_partition(scores, lengths)

    def score(self, scores: Tensor, labels: Tensor, lengths: Tensor) -> Tensor:
        """s(y) -> [B]."""
        rows, steps, _ = scores.shape
        inside = torch.arange(steps, device=scores.device) < lengths[:, None]  # [B, T]
        if rows == 0 or steps == 0:
            return scores.new_zeros(rows)
        labels = labels.masked_fill(~inside, 0)
        emitted = scores.gather(2, labels[..., None]).squeeze(2)
        moved = self.A[labels[:, :-1], labels[:, 1:]]
        last = labels.gather(1, (lengths - 1).clamp(min=0)[:, None]).squeeze(1)
        total = (emitted * inside).sum(1) + (moved * inside[:, 1:]).sum(1) + self.start[labels[:, 0]] + self.end[last]
        return total * (lengths > 0)

    def log_partition(self, scores: Tensor, lengths: Tensor) -> Tensor:
        """log Σ_y exp s(y) -> [B]: α_t[j] = o_t[j] + log Σ_i exp(α_{t-1}[i] + A[i, j])."""
        if scores.shape[1] == 0:
            return scores.new_zeros(scores.shape[0])
        top = self.A.detach().max()
        E = (self.A - top).exp()  # one product per step instead of a log-sum over [B, K, K]
        alpha = self.start + scores[:, 0]
        for t in range(1, scores.shape[1]):
            peak = alpha.detach().amax(1, keepdim=True)
            onward = ((alpha - peak).exp() @ E).clamp_min(torch.finfo(alpha.dtype).tiny).log() + peak + top + scores[:, t]
            alpha = torch.where((t < lengths)[:, None], onward, alpha)
        return (alpha + self.end).logsumexp(1) * (lengths > 0)

    @torch.no_grad()
    def decode(self, scores: Tensor, lengths: Tensor) -> list[list[int]]:
        """The most probable sequence of labels that is allowed throughout, for each row (Viterbi)."""
        self._check(scores, lengths)
        rows, steps, K = scores.shape
        if steps == 0:
            return [[] for _ in range(rows)]
        never = torch.finfo(scores.dtype).min / 4
        A = self.A.masked_fill(~self.allowed[:K, :K], never)
        start, end = self.start.masked_fill(~self.allowed[K, :K], never), self.end.masked_fill(~self.allowed[:K, K], never)
        best = start + scores[:, 0]  # [B, K]: the best score of a sequence up to t that ends in j
        came = scores.new_zeros((steps, rows, K), dtype=torch.long)
        for t in range(1, steps):
            onward, came[t] = (best[:, :, None] + A).max(1)
            best = torch.where((t < lengths)[:, None], (onward + scores[:, t]).clamp(min=never), best)
        last = (best + end).argmax(1).tolist()
        back = came.tolist()
        paths = []
        for row, length in enumerate(lengths.tolist()):
            path = [last[row]]
            for t in range(length - 1, 0, -1):
                path.append(back[t][row][path[-1]])
            paths.append(path[::-1] if length else [])
        return paths

    def _check(self, scores: Tensor, lengths: Tensor) -> None:
        if scores.dim() != 3 or scores.shape[2] != self.labels:
            raise ShapeError(f"CRF({self.labels}) expects scores of [B, T, {self.labels}], got {list(scores.shape)}.")
        if lengths.shape != scores.shape[:1]:
            raise ShapeError(f"CRF expects one length per sequence, [{scores.shape[0]}], got {list(lengths.shape)}.")
