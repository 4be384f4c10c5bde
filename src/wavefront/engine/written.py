"""The Python around a native step, written out for one form of its call: beside a step of a few microseconds each loop over parts would be seen.

An LSTM's, with one row:

    def step(state, x):
        try:
            (g0, g1,), g2 = state, x
        except (TypeError, ValueError):
            return other(state, x)
        if not check(g0, g1, g2, p0, p1, p2):
            return other(state, x)
        m0, m1, = empty((1, 128), (128, 1), dtype), empty((1, 128), (128, 1), dtype),
        try:
            frame = frames.pop()
        except IndexError:
            frame = new_frame()
        pack(frame[0], 0, g2.data_ptr(), g0.data_ptr(), g1.data_ptr(), m0.data_ptr(), m1.data_ptr(), p1.data_ptr(), p2.data_ptr(), p0.data_ptr(),)
        refused = native(frame[1])
        frames.append(frame)
        if refused:
            return changed(state, x)
        runs["single"] += 1
        return new(T0, (m0, m1,)), m0
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

from torch import Tensor

from wavefront.engine.graph import Unsupported

__all__ = ["step_function"]


def step_function(
    names: dict[str, Any],
    state: Any,
    x: Any,
    homes: int,
    made: list[tuple[int, ...]],
    places: Iterable[str],
    after: Any,
    output: int,
) -> Callable[[Any, Any], Any]:
    """`step(state, x)` as above.

    names   what it calls, by name; "holds" and "anew" only where there is something to ask and to make at each call
    state   an example, for its form; x too
    homes   how many tensors p0, p1, .. of the cell are checked
    made    the shapes of the results m0, m1, ..
    places  where the native function finds what it is given, g0, .., what is made, m0, .., and the cell's own, as expressions
    after   an example of the next state, and which result is each of its leaves
    output  the result that is the output
    """
    given: list[str] = []
    types: dict[str, Any] = {}
    form, numbers = after
    which = iter(numbers)
    target = f"{_nest(state, _named('g', given))}, {_nest(x, _named('g', given))}"
    built = _nest(form, lambda: f"m{next(which)}", types)
    text = f"""
def step(state, x):
    try:
        {target} = state, x
    except (TypeError, ValueError):
        return other(state, x)
    if {"not holds() or " if "holds" in names else ""}not check({_row(given)} {_row(f"p{n}" for n in range(homes))}):
        return other(state, x)
    {_row(f"m{n}" for n in range(len(made)))} = {_row(f"empty({shape}, {_strides(shape)}, dtype)" for shape in made)}
    try:
        frame = frames.pop()
    except IndexError:
        frame = new_frame()
    {"a = anew()" if "anew" in names else ""}
    pack(frame[0], 0, {_row(places)})
    refused = native(frame[1])
    frames.append(frame)
    if refused:
        return changed(state, x)
    runs["single"] += 1
    return {built}, m{output}
"""
    space = {**names, **types, "new": tuple.__new__}
    exec(_code(text), space)
    found: Callable[[Any, Any], Any] = space["step"]
    return found


def _row(parts: Iterable[str]) -> str:
    return "".join(f"{part}, " for part in parts).rstrip()


def _named(letter: str, names: list[str]) -> Callable[[], str]:
    def name() -> str:
        names.append(f"{letter}{len(names)}")
        return names[-1]

    return name


def _nest(tree: Any, leaf: Callable[[], str], types: dict[str, Any] | None = None) -> str:
    """A nest of tensors as text that takes one apart; or, where `types` are collected, as text that builds one."""
    if isinstance(tree, Tensor):
        return leaf()
    if not isinstance(tree, (tuple, list)):
        raise Unsupported(f"a {type(tree).__name__} among its tensors")
    inner = f"({_row(_nest(part, leaf, types) for part in tree)})"
    if types is None or type(tree) is tuple:
        return inner
    types[f"T{len(types)}"] = type(tree)
    return f"list({inner})" if isinstance(tree, list) else f"new(T{len(types) - 1}, {inner})"


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    found = [1]
    for n in shape[:0:-1]:
        found.append(found[-1] * max(n, 1))
    return tuple(found[::-1])


@lru_cache(maxsize=1024)
def _code(text: str) -> Any:
    return compile(text, "<a step>", "exec")
