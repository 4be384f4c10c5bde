"""Linear readouts in closed form, from sums over a stream that may be larger than memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from wavefront.errors import DataError, ShapeError

__all__ = ["Linear", "Ridge"]

ROWS = 4096  # whose deviations are held at once
EPS = torch.finfo(torch.float64).eps


class Linear(NamedTuple):
    """o = V f + c."""

    V: Tensor  # [targets, features]
    c: Tensor  # [targets]


class Ridge:
    """Ridge regression from streamed sums.  [Hoerl & Kennard 1970; Golub, Heath & Wahba 1979 for the choice of the penalty]

        V, c = argmin Σ |y - V f - c|² + penalty |V|²            V = S_yf (S_ff + penalty I)⁻¹,    c = ȳ - V f̄

    where S are the sums of products of deviations from the means. They are kept in float64 and, block by block, by the update of Chan et al. (1979),
    so that large offsets cost no digits; while there are fewer rows than features, the rows are kept instead. The bias c is not penalised.

    features, targets  how many numbers each row has

    `add` as often as there are blocks; then `solve` for one penalty, `path` for several by one eigendecomposition, `best` by generalised
    cross-validation.

    >>> sums, f = Ridge(3, 1), torch.randn(50, 3, dtype=torch.float64)
    >>> for block in f.split(20):
    ...     sums.add(block, 2 * block[:, :1] + 5)
    >>> V, c = sums.solve(1e-9)
    >>> V.round(decimals=6).abs().tolist(), c.round(decimals=6).tolist()
    ([[2.0, 0.0, 0.0]], [5.0])
    """

    def __init__(self, features: int, targets: int):
        double = torch.float64
        self.count = 0
        self.mean_f, self.mean_y = torch.zeros(features, dtype=double), torch.zeros(targets, dtype=double)
        self.fy = torch.zeros(features, targets, dtype=double)
        self.yy = torch.zeros(targets, dtype=double)
        self._ff: Tensor | None = None
        self._rows: list[tuple[Tensor, Tensor]] = []  # while they are fewer than the features, they are the smaller matrix

    @torch.no_grad()
    def add(self, f: Tensor, y: Tensor) -> None:
        """A block of rows: f [N, features], y [N, targets]. DataError where a number is not finite, with how many."""
        features, targets = self.fy.shape
        if f.dim() != 2 or y.dim() != 2 or f.shape[1] != features or y.shape != (len(f), targets):
            raise ShapeError(f"Ridge expects rows of f [N, {features}] and y [N, {targets}], got {list(f.shape)} and {list(y.shape)}.")
        for name, block in (("features", f), ("targets", y)):
            if not bool(torch.isfinite(block).all()):
                rows = (~torch.isfinite(block)).any(1).nonzero().flatten()
                raise DataError(
                    f"{int((~torch.isfinite(block)).sum())} of the {name} are NaN or infinite, the first in row {self.count + int(rows[0])}."
                    " Leave such rows out, or fill them."
                )
        if self._ff is None and self.count + len(f) <= features:
            self._rows.append((f.to(torch.float64, copy=True), y.to(torch.float64, copy=True)))
            self.count += len(f)
        else:
            self._take(f, y, self.ff)

    @property
    def ff(self) -> Tensor:
        """S_ff [features, features]."""
        if self._ff is None:
            features = len(self.fy)
            self._ff, held, self._rows = torch.zeros(features, features, dtype=torch.float64), self._rows, []
            self.count, self.mean_f, self.mean_y = 0, torch.zeros_like(self.mean_f), torch.zeros_like(self.mean_y)
            self.yy = torch.zeros_like(self.yy)
            for f, y in held:
                self._take(f, y, self._ff)
        return self._ff

    def _take(self, f: Tensor, y: Tensor, ff: Tensor) -> None:
        for few_f, few_y in zip(f.split(ROWS), y.split(ROWS)):
            if len(few_f):
                self._add(few_f.to(ff), few_y.to(ff), ff)

    def _add(self, f: Tensor, y: Tensor, ff: Tensor) -> None:
        n, total = len(f), self.count + len(f)
        mean_f, mean_y = f.mean(0), y.mean(0)
        df, dy = f - mean_f, y - mean_y
        apart_f, apart_y, share = mean_f - self.mean_f, mean_y - self.mean_y, self.count * n / total
        turned = df.numpy().T
        ff += torch.from_numpy(
            turned @ turned.T
        )  # by BLAS's product of a matrix with its own transpose: half the work, which torch has not
        ff.addr_(apart_f, apart_f, alpha=share)
        self.fy.addmm_(df.t(), dy).addr_(apart_f, apart_y, alpha=share)
        self.yy += (dy**2).sum(0) + share * apart_y**2
        self.mean_f += apart_f * (n / total)
        self.mean_y += apart_y * (n / total)
        self.count = total

    def solve(self, penalty: float) -> Linear:
        """The readout for one penalty, at least 0; for 0 the one of least norm."""
        if not 0 <= penalty < float("inf"):
            raise ValueError(f"Ridge.solve: a penalty is a number of at least 0, got {penalty}.")
        if self._ff is not None and penalty > float(self.ff.diagonal().sum()) * EPS:  # else lost in the rounding of the sums
            factor, failed = torch.linalg.cholesky_ex(self.ff + penalty * torch.eye(len(self.ff), dtype=self.ff.dtype))
            if not failed:
                return self._linear(torch.cholesky_solve(self.fy, factor))
        return self.path([penalty])[0]

    def path(self, penalties: Sequence[float]) -> list[Linear]:
        """The readouts for several penalties, by one eigendecomposition."""
        values, vectors, turned = self._spectrum()
        return [self._linear(vectors @ (turned * _inverse(values, p))) for p in penalties]

    def gcv(self, penalties: Sequence[float]) -> Tensor:
        """For each penalty the score of generalised cross-validation, the mean over the targets (each in units of its variance): [P].

        GCV = (RSS / n) / (1 - dof / n)²            dof = 1 + Σ λ / (λ + penalty)
        """
        values, _, turned = self._spectrum()  # which finds the means and sums of rows that are held
        n, variance = max(1, self.count), torch.where(self.yy > 0, self.yy, 1.0)
        scores = []
        for penalty in penalties:
            shrunk = values[:, None] * _inverse(values, penalty)
            explained = (turned**2 * _inverse(values, penalty) * (2 - shrunk)).sum(0)
            dof = 1 + float(shrunk.sum())
            rss = (self.yy - explained).clamp(min=0) / variance
            scores.append(rss.mean() / n / (1 - dof / n) ** 2 if dof < n else torch.tensor(torch.inf, dtype=torch.float64))
        return torch.stack(scores)

    def best(self, penalties: Sequence[float]) -> tuple[float, Linear]:
        """The penalty of the lowest `gcv`, and its readout."""
        if len(penalties) == 1:
            return penalties[0], self.solve(penalties[0])
        penalty = penalties[int(self.gcv(penalties).argmin())]
        return penalty, self.path([penalty])[0]

    def _spectrum(self) -> tuple[Tensor, Tensor, Tensor]:
        """S_ff = Q diag(λ) Qᵀ, without what is 0 for want of rows, and Qᵀ S_fy. Found once for the rows so far."""
        if getattr(self, "_found", (-1,))[0] != self.count:
            if self._ff is not None or not self._rows:
                values, vectors = torch.linalg.eigh(self.ff)
                self._found = (self.count, values.clamp(min=0), vectors, vectors.t() @ self.fy)
            else:
                f, y = (torch.cat(parts) for parts in zip(*self._rows))
                self.mean_f, self.mean_y = f.mean(0), y.mean(0)
                y = y - self.mean_y
                self.yy = (y**2).sum(0)
                left, singular, right = torch.linalg.svd(f - self.mean_f, full_matrices=False)
                self._found = (self.count, singular**2, right.t(), singular[:, None] * (left.t() @ y))
        return self._found[1:]

    def _linear(self, weights: Tensor) -> Linear:
        return Linear(weights.t().contiguous(), self.mean_y - self.mean_f @ weights)


def _inverse(values: Tensor, penalty: float) -> Tensor:
    """1 / (λ + penalty) [features, 1]; for a penalty lost in rounding, 0 where λ is 0 but for rounding."""
    largest = float(values.max()) if len(values) else 0.0
    if penalty > largest * EPS:
        return 1 / (values + penalty)[:, None]
    return torch.where(values > largest * len(values) * EPS, 1 / (values + penalty), 0.0)[:, None]
