"""Sparse recurrent matrices by topology: which units each unit hears, with what weight, and a spectral radius that is exact.

A matrix W [units, units] is held as its nonzeros: `sources` [units, k], the k units that each unit hears, and `weights` [units, k].
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from wavefront.errors import SettingsError

__all__ = ["TOPOLOGIES", "connected", "dense", "spectral_radius_of"]

Nonzeros = tuple[np.ndarray, np.ndarray]  # sources, weights

GROUP = 8  # units that hear the same others: a vector register of float64
FEW = 256  # units up to which all eigenvalues are found, in a few milliseconds
REWIRED = 0.1  # of the connections of a small world lead anywhere


def connected(topology: str | np.ndarray, units: int, density: float, radius: float, random: np.random.Generator) -> Nonzeros:
    """Sources and weights [units, k] of a matrix of that topology (or of the matrix given), its spectral radius brought to `radius`."""
    if not isinstance(topology, str):
        return _given(np.asarray(topology, np.float64), units, radius)
    if topology not in TOPOLOGIES:
        raise SettingsError(f"cells.Reservoir: topology is one of {', '.join(TOPOLOGIES)}, or a matrix [units, units]; got {topology!r}.")
    return TOPOLOGIES[topology](units, max(1, round(density * units)), radius, random)


def _random(units: int, k: int, radius: float, random: np.random.Generator) -> Nonzeros:
    """Each unit hears k units chosen at random. Up to eight neighbours share their choice, each with weights of its own, so that a step reads
    whole vectors; each unit is heard as often as any other."""
    group = 2 ** int(np.log2(min(GROUP, k)))
    rows = -(-units // group)
    stream = np.concatenate([random.permutation(units) for _ in range(-(-rows * k // units) + 1)])
    chosen = np.empty((rows, k), np.int64)
    at = 0
    for row in range(rows):
        taken = np.unique(stream[at : at + k])
        at += k
        if len(taken) < k:  # where one permutation ends and the next begins, a unit may come twice
            others = np.setdiff1d(np.arange(units), taken)
            taken = np.sort(np.concatenate([taken, random.choice(others, k - len(taken), replace=False)]))
        chosen[row] = taken
    sources = chosen.repeat(group, 0)[:units]
    return _scaled(sources, random.uniform(-1, 1, sources.shape), radius)


def _ring(units: int, k: int, radius: float, random: np.random.Generator) -> Nonzeros:
    """Each unit hears the one before it, all with one weight.  [Rodan & Tiňo 2011, IEEE TNN 22(1), SCR]"""
    return (np.arange(units)[:, None] - 1) % units, np.full((units, 1), radius)


def _delay_line(units: int, k: int, radius: float, random: np.random.Generator) -> Nonzeros:
    """A ring that is cut: unit 0 hears none. All its eigenvalues are 0; `radius` is the weight.  [Rodan & Tiňo 2011, DLR]"""
    sources, weights = _ring(units, k, radius, random)
    sources[0], weights[0] = 0, 0.0
    return sources, weights


def _permutation(units: int, k: int, radius: float, random: np.random.Generator) -> Nonzeros:
    """Each unit hears one, and is heard by one: `radius` times an orthogonal matrix.  [Hajnal & Lőrincz 2006, ICANN]"""
    return random.permutation(units)[:, None], random.choice([-radius, radius], (units, 1))


def _small_world(units: int, k: int, radius: float, random: np.random.Generator) -> Nonzeros:
    """Each unit hears its k nearest on a ring; a tenth of these connections lead anywhere instead.  [Watts & Strogatz 1998]"""
    near = np.concatenate([np.arange(-(k // 2), 0), np.arange(1, k - k // 2 + 1)])
    sources = (np.arange(units)[:, None] + near) % units
    for near_ones, moved in zip(sources, random.random(sources.shape) < REWIRED):
        free = np.setdiff1d(np.arange(units), near_ones)
        moved &= np.cumsum(moved) <= len(free)
        near_ones[moved] = random.choice(free, int(moved.sum()), replace=False)
    return _scaled(sources, random.uniform(-1, 1, sources.shape), radius)


def _block(units: int, k: int, radius: float, random: np.random.Generator) -> Nonzeros:
    """Groups of k units that hear one another and nobody else, each group of that radius."""
    sources, weights = np.zeros((units, k), np.int64), np.zeros((units, k))
    for first in range(0, units, k):
        n = min(k, units - first)
        block = random.uniform(-1, 1, (n, n))
        sources[first : first + n, :n] = np.arange(first, first + n)
        weights[first : first + n, :n] = block * (radius / np.abs(np.linalg.eigvals(block)).max())
    return sources, weights


def _given(matrix: np.ndarray, units: int, radius: float) -> Nonzeros:
    if matrix.shape != (units, units) or not np.isfinite(matrix).all():
        raise SettingsError(
            f"cells.Reservoir: a topology given as a matrix is finite, [{units}, {units}]; got one of {list(matrix.shape)}"
            f" with {int((~np.isfinite(matrix)).sum())} numbers that are not finite."
        )
    k = max(1, int((matrix != 0).sum(1).max(initial=0)))
    sources = np.sort(np.argsort(matrix == 0, 1, kind="stable")[:, :k], 1)
    return _scaled(sources, np.take_along_axis(matrix, sources, 1), radius)


TOPOLOGIES: dict[str, Callable[[int, int, float, np.random.Generator], Nonzeros]] = {
    "random": _random,
    "ring": _ring,
    "small_world": _small_world,
    "block": _block,
    "permutation": _permutation,
    "delay_line": _delay_line,
}


def _scaled(sources: np.ndarray, weights: np.ndarray, radius: float) -> Nonzeros:
    if radius == 0:
        return sources, np.zeros_like(weights)
    found = spectral_radius_of(sources, weights)
    if found == 0:
        raise SettingsError(
            f"cells.Reservoir: this matrix of {len(weights)} units is nilpotent, its spectral radius is 0 and cannot be made {radius:g}."
            " Take more units, or a higher density."
        )
    return sources, weights * (radius / found)


def spectral_radius_of(sources: np.ndarray, weights: np.ndarray) -> float:
    """The largest absolute eigenvalue, to rounding: by Arnoldi iterations for many units, which need products alone."""
    units = len(weights)
    if units > FEW and weights.shape[1] <= units // 4:
        from scipy.sparse import csr_array
        from scipy.sparse.linalg import ArpackNoConvergence, eigs

        starts = np.arange(units + 1) * weights.shape[1]
        matrix = csr_array((weights.ravel(), sources.ravel(), starts), shape=(units, units))
        start = np.random.default_rng(0).standard_normal(units)
        try:
            found = eigs(matrix, 4, which="LM", ncv=96, v0=start, return_eigenvectors=False)
        except ArpackNoConvergence:  # eigenvalues that are nearly equal in size: all of them, then
            pass
        else:
            return float(np.abs(found).max())
    return float(np.abs(np.linalg.eigvals(dense(sources, weights))).max(initial=0.0))


def dense(sources: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """W [units, units]."""
    matrix = np.zeros((len(weights), len(weights)))
    np.add.at(matrix, (np.arange(len(weights))[:, None], sources), weights)
    return matrix
