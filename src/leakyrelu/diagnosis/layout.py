"""Layout of a tensor: which of its numbers belong to one unit, followed through reshapes, permutations, sums and more.

A layout holds, for each dimension, the factors that its size is a product of, slowest first, each with whether it
counts units: ``((8, False),), ((16, True),), ((49, False),)`` is 8 samples, 16 units, 49 positions. A reshape of it to
(8, 4, 4, 49) has its units on axes 1 and 2, and the reshape back has them on axis 1 again; one to (8, 784) holds units
and positions in one dimension, as two factors. Neighboring factors of one kind are one factor. A dimension of size 1
that holds no unit has no factor.

Each function gives None where units can no longer be told apart, or where nothing is known. A layout without units is
known, too: that of attention scores, or of a sum over all units.
"""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Factors = tuple[tuple[int, bool], ...]
    Layout = tuple[Factors, ...]


def produced(shape: Sequence[int], axis: int) -> Layout | None:
    """Lay out the output of a layer that makes a unit of each index of an axis.

    Examples
    --------
    >>> produced((8, 16, 1), 1)
    (((8, False),), ((16, True),), ())
    """
    if not -len(shape) <= axis < len(shape):
        return None
    axis %= len(shape)
    return tuple(((size, True),) if place == axis else _plain(size) for place, size in enumerate(shape))


def reshaped(layout: Layout | None, shape: Sequence[int]) -> Layout | None:
    """Lay out the same numbers, in the same order, in another shape.

    Examples
    --------
    >>> reshaped(produced((8, 16, 49), 1), (8, 4, 4, 7, 7))
    (((8, False),), ((4, True),), ((4, True),), ((7, False),), ((7, False),))
    """
    if layout is None:
        return None
    factors = [factor for dimension in reversed(layout) for factor in reversed(dimension)]  # the slowest last
    dimensions: list[Factors] = []
    for size in shape:
        taken: list[tuple[int, bool]] = []
        missing = size
        if size in (0, 1) and factors and factors[-1] == (size, size == 1):
            taken.append(factors.pop())
            missing = 1
        while missing != 1:
            if not factors:
                return None
            count, unit = factors.pop()
            if count and missing % count == 0:
                missing //= count
            elif missing and count % missing == 0:
                factors.append((count // missing, unit))
                count, missing = missing, 1
            else:
                return None
            taken.append((count, unit))
        dimensions.append(_merged(taken))
    if factors:  # a unit of size 1, or the shape is of another tensor
        if dimensions and all(count == 1 for count, _ in factors):
            dimensions[-1] = _merged([*dimensions[-1], *reversed(factors)])
        else:
            return None
    return tuple(dimensions)


def permuted(layout: Layout | None, order: Sequence[int]) -> Layout | None:
    """Lay out a tensor whose axes are taken in another order."""
    if layout is None or sorted(axis % len(layout) for axis in order) != list(range(len(layout))):
        return None
    return tuple(layout[axis] for axis in order)


def expanded(layout: Layout | None, shape: Sequence[int]) -> Layout | None:
    """Lay out a tensor that is broadcast to a shape, or whose dimensions are repeated."""
    if layout is not None and len(layout) < len(shape):
        layout = ((),) * (len(shape) - len(layout)) + layout
    return _changed(layout, shape, _repeated)


def combined(layouts: Iterable[Layout | None], shape: Sequence[int]) -> Layout | None:
    """Lay out what is computed of several tensors number by number, with broadcasting; those not known are ignored."""
    known = [layout for layout in layouts if layout is not None]
    if not known:
        return None
    first = known[0]
    if len(first) == len(shape) and all(layout == first for layout in known) and _fits(first, shape):
        return first
    dimensions: list[Factors] = []
    for place in range(-len(shape), 0):
        size = shape[place]
        candidates = [
            layout[place]
            for layout in known
            if -place <= len(layout) and layout[place] and _size(layout[place]) == size
        ]
        if size == 1:
            candidates = [factors for factors in candidates if _has_units(factors)]
        if any(factors != candidates[0] for factors in candidates):
            return None
        dimensions.append(candidates[0] if candidates else _plain(size))
    return tuple(dimensions)


def concatenated(layouts: Sequence[Layout | None], axis: int, shape: Sequence[int]) -> Layout | None:
    """Lay out tensors that are joined along an axis; those not known are ignored."""
    known = [layout for layout in layouts if layout is not None and len(layout) == len(shape)]
    if not known:
        return None
    axis %= len(shape)
    rest = [size if place != axis else 1 for place, size in enumerate(shape)]
    others = combined((tuple(() if p == axis else f for p, f in enumerate(layout)) for layout in known), rest)
    kinds = {unit for layout in known for _, unit in layout[axis]}
    if others is None or len(kinds) > 1:
        return None
    joined = ((shape[axis], True),) if True in kinds else _plain(shape[axis])
    return (*others[:axis], joined, *others[axis + 1 :])


def cut(layout: Layout | None, shape: Sequence[int]) -> Layout | None:
    """Lay out a part of a tensor, or one with some indices taken more than once, of as many axes."""
    return _changed(layout, shape, _part)


def resized(layout: Layout | None, shape: Sequence[int]) -> Layout | None:
    """Lay out what pooling, padding or interpolation makes: positions may become more or fewer, units may not."""
    return _changed(layout, shape, lambda factors, size: None if _has_units(factors) else _plain(size))


def without(layout: Layout | None, axes: Iterable[int], *, keep: bool = False) -> Layout | None:
    """Lay out what is left where axes are summed over; `keep` leaves them with size 1."""
    if layout is None:
        return None
    gone = {axis % max(len(layout), 1) for axis in axes}
    if keep:
        return tuple(() if place in gone else factors for place, factors in enumerate(layout))
    return tuple(factors for place, factors in enumerate(layout) if place not in gone)


def selected(layout: Layout | None, axis: int) -> Layout | None:
    """Lay out what is left where one index of an axis is taken: of units, there is one left."""
    left = without(layout, [axis])
    if layout is None or not left or not _has_units(layout[axis]) or any(map(_has_units, left)):
        return left
    place = next((place for place, factors in enumerate(left) if not factors), len(left) - 1)
    return (*left[:place], _merged([(1, True), *left[place]]), *left[place + 1 :])


def contracted(
    terms: Sequence[str], output: str, layouts: Sequence[Layout | None], weights: Sequence[bool], sizes: dict[str, int]
) -> Layout | None:
    """Lay out a sum of products, in the notation of einsum: ``["bij", "jk"]`` and ``"bik"`` are a product of matrices.

    A letter that stands in the weights alone counts units. Without weights, a letter counts units where it does in an
    operand; two such letters are two kinds of units, which cannot be told apart. Where some units of an operand are
    summed over, as the channels of each head are in attention scores, what is left of them counts no units.

    Examples
    --------
    >>> contracted(["bij", "jk"], "bik", [None, None], [False, True], {"b": 8, "i": 5, "k": 4})
    (((8, False),), ((5, False),), ((4, True),))
    """
    of_weights = {letter for term, weight in zip(terms, weights, strict=True) if weight for letter in term}
    of_data = Counter(letter for term, weight in zip(terms, weights, strict=True) if not weight for letter in set(term))
    if of_weights and of_data:
        made = [letter for letter in output if letter in of_weights and letter not in of_data]
        if made:
            return tuple(((sizes[each], True),) if each in made else _plain(sizes[each]) for each in output)
    found: dict[str, Factors] = {}
    known = [(term, layout) for term, layout in zip(terms, layouts, strict=True) if layout and len(layout) == len(term)]
    for term, layout in known:
        for letter, factors in zip(term, layout, strict=True):
            if letter not in found or _has_units(factors):
                found[letter] = factors
    units = {letter for letter in output if _has_units(found.get(letter, ()))}
    if not known or not any(units <= set(term) for term, _ in known):
        return None
    summed = {letter for letter, factors in found.items() if letter not in output and _has_units(factors)}
    if summed and units <= {letter for term, _ in known if summed & set(term) for letter in term}:
        return tuple(_plain(sizes[letter]) for letter in output)
    return tuple(found.get(letter, _plain(sizes[letter])) for letter in output)


def unit_axes(layout: Layout) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return a shape of the same numbers in which each axis holds units or none, and the axes of the units.

    Examples
    --------
    >>> unit_axes(reshaped(produced((8, 16, 7, 7), 1), (8, 784)))
    ((8, 16, 49), (1,))
    """
    shape: list[int] = []
    axes: list[int] = []
    for factors in layout:
        for count, unit in factors or ((1, False),):
            if unit:
                axes.append(len(shape))
            shape.append(count)
    return tuple(shape), tuple(axes)


def _changed(
    layout: Layout | None, shape: Sequence[int], change: Callable[[Factors, int], Factors | None]
) -> Layout | None:
    """Lay out a tensor of as many axes; `change` gives the factors of a dimension that has another size than before."""
    if layout is None or len(layout) != len(shape):
        return None
    dimensions: list[Factors] = []
    for factors, size in zip(layout, shape, strict=True):
        now = factors if _size(factors) == size else change(factors, size)
        if now is None:
            return None
        dimensions.append(now)
    return tuple(dimensions)


def _repeated(factors: Factors, size: int) -> Factors | None:
    before = _size(factors)
    if not before or size % before:
        return None
    return _merged([*factors, (size, False)] if before == 1 else [(size // before, False), *factors])


def _part(factors: Factors, size: int) -> Factors | None:
    if len(factors) < 2:
        return ((size, True),) if _has_units(factors) else _plain(size)
    rest = _size(factors[1:])
    return ((size // rest, factors[0][1]), *factors[1:]) if rest and size % rest == 0 else None


def _plain(size: int) -> Factors:
    return () if size == 1 else ((size, False),)


def _size(factors: Factors) -> int:
    return math.prod(count for count, _ in factors)


def _fits(layout: Layout, shape: Sequence[int]) -> bool:
    return all(_size(factors) == size for factors, size in zip(layout, shape, strict=True))


def _has_units(factors: Factors) -> bool:
    return any(unit for _, unit in factors)


def _merged(factors: Iterable[tuple[int, bool]]) -> Factors:
    """Merge neighbors of one kind, and drop positions of size 1."""
    merged: list[tuple[int, bool]] = []
    for count, unit in factors:
        if count == 1 and not unit:
            continue
        if merged and merged[-1][1] is unit:
            merged[-1] = merged[-1][0] * count, unit
        else:
            merged.append((count, unit))
    return tuple(merged)
