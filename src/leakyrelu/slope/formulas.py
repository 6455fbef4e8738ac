"""Closed formulas of the slope of Leaky ReLU: what it does to a signal, and which one to choose.

For ``f(x) = x if x > 0 else alpha * x`` and ``x ~ N(0, 1)``, which is what the inputs of a wide layer look like at
initialization, everything below has a closed form and holds for every real ``alpha``: positive, zero, negative,
above one. A Python number gives a Python float, an array an array of float64; several arguments broadcast.

Two numbers describe what a layer does. The *gain* keeps the size of the signal. The *bend*

    w = (1 - alpha)**2 / (1 + alpha**2)        1 for ReLU, 0 for a straight line (alpha = 1)

is how fast directions are lost: with ``t = arccos(c)``, two inputs whose cosine similarity is ``c`` leave the layer
with

    C(c) = c + w * K(c)        K(c) = (sin(t) - t * cos(t)) / pi >= 0

This is the arc-cosine kernel (Cho and Saul, NeurIPS 2009) in a form without cancellation. Both ways to choose a slope
first find the bend, then solve the line above for ``alpha``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from leakyrelu.slope.deep import ONE_BY_ONE, advance, advanced_derivative, layers_between

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

_DEEPEST = 2**63 - 1


@overload
def gain(alpha: float) -> float: ...
@overload
def gain(alpha: ArrayLike) -> Any: ...
def gain(alpha: ArrayLike) -> Any:
    """Return ``sqrt(2 / (1 + alpha**2))``, the factor that keeps the second moment of the signal at 1.

    ``E[(gain * f(x))**2] = 1`` for ``x ~ N(0, 1)``. A linear layer in front of or behind the activation keeps the
    size of the signal when its weights have standard deviation ``gain / sqrt(fan_in)`` (He et al., ICCV 2015), or
    when it is orthogonal times ``gain``. It is what ``torch.nn.init.calculate_gain("leaky_relu", alpha)`` returns.

    Parameters
    ----------
    alpha
        Slope, any real number or array.

    Returns
    -------
    float or array of float64
        A Python number gives a Python float, an array gives an array of its shape.

    Examples
    --------
    >>> from leakyrelu.slope import gain
    >>> round(gain(0.01), 4)
    1.4141
    """
    slope = _real(alpha, "alpha")
    # hypot: alpha**2 would overflow long before the gain does.
    return _like_input(np.sqrt(2.0) / np.hypot(1.0, slope), alpha)


@overload
def mean(alpha: float) -> float: ...
@overload
def mean(alpha: ArrayLike) -> Any: ...
def mean(alpha: ArrayLike) -> Any:
    """Return ``E[f(x)] = (1 - alpha) / sqrt(2 * pi)`` for ``x ~ N(0, 1)``: how far the output is off zero.

    Examples
    --------
    >>> from leakyrelu.slope import mean
    >>> round(mean(0.01), 4)
    0.395
    >>> mean(1.0)
    0.0
    """
    slope = _real(alpha, "alpha")
    return _like_input((1.0 - slope) / np.sqrt(2.0 * np.pi), alpha)


@overload
def variance(alpha: float) -> float: ...
@overload
def variance(alpha: ArrayLike) -> Any: ...
def variance(alpha: ArrayLike) -> Any:
    """Return ``Var[f(x)] = (1 + alpha**2) / 2 - (1 - alpha)**2 / (2 * pi)`` for ``x ~ N(0, 1)``.

    ``(f(x) - mean(alpha)) / sqrt(variance(alpha))`` has mean 0 and variance 1: the centered Leaky ReLU.

    Examples
    --------
    >>> from leakyrelu.slope import variance
    >>> variance(1.0)
    1.0
    """
    slope = _real(alpha, "alpha")
    # The same polynomial as a sum of squares: nothing cancels.
    odd_part = ((1.0 + slope) / 2.0) ** 2
    even_part = (1.0 - slope) ** 2 * (0.25 - 0.5 / np.pi)
    return _like_input(odd_part + even_part, alpha)


@overload
def correlation(alpha: float, c: float, depth: int = 1) -> float: ...
@overload
def correlation(alpha: ArrayLike, c: ArrayLike, depth: ArrayLike = 1) -> Any: ...
def correlation(alpha: ArrayLike, c: ArrayLike, depth: ArrayLike = 1) -> Any:
    """Return the cosine similarity of two signals after ``depth`` layers, when it was ``c`` before them.

    One layer: ``C(c) = ((1-a)**2 * (sqrt(1-c**2) + (pi - arccos(c)) * c) / pi + 2*a*c) / (1 + a**2)``, which is
    ``E[f(u) f(v)] / E[f(u)**2]`` for standard normal ``u``, ``v`` of correlation ``c``. A wide linear layer at
    initialization leaves the similarity as it is, so a deep plain network applies ``C`` once a layer.
    ``C(1) = 1`` and ``C'(1) = 1`` for every slope; the closer the result comes to 1, the less the output of the
    network depends on its input.

    Parameters
    ----------
    alpha
        Slope, any real number or array.
    c
        Cosine similarity before, between -1 and 1.
    depth
        Number of layers, an integer of at least 0 (0 returns ``c``).
        The three arguments broadcast.

    Raises
    ------
    ValueError
        ``c`` outside [-1, 1], a negative depth, or an argument that is not finite.
    TypeError
        A depth that is not an integer, or an argument that is not a real number.

    Examples
    --------
    Unrelated inputs after 50 layers. At the usual slope the output hardly depends on the input:

    >>> from leakyrelu.slope import correlation
    >>> [round(correlation(alpha, 0.0, 50), 3) for alpha in (0.0, 0.01, 0.5)]
    [0.988, 0.987, 0.849]
    """
    slope, similarity, layers = np.broadcast_arrays(_real(alpha, "alpha"), _real(c, "c"), _layers(depth, least=0))
    outside = np.abs(similarity) > 1.0
    if outside.any():
        value = float(similarity[outside][0])
        raise ValueError(f"c = {value!r} is not a cosine similarity; it must lie between -1 and 1")
    bend = ((1.0 - slope) / np.hypot(1.0, slope)) ** 2
    result = similarity.copy()
    for layer in range(_one_by_one(layers)):
        result = np.where(layer < layers, _next_similarity(result, bend), result)
    deeper = (layers > ONE_BY_ONE) & (result < 1.0) & (bend > 0.0)
    if deeper.any():
        result[deeper] = np.cos(advance(np.arccos(result[deeper]), bend[deeper], _more(layers[deeper])))
    return _like_input(result, alpha, c, depth)


@overload
def tailored(depth: int, eta: float = 0.9) -> float: ...
@overload
def tailored(depth: ArrayLike, eta: ArrayLike = 0.9) -> Any: ...
def tailored(depth: ArrayLike, eta: ArrayLike = 0.9) -> Any:
    """Return the slope that gives ``correlation(slope, 0, depth) = eta``.

    Unrelated inputs then leave a plain network of ``depth`` layers with cosine similarity ``eta``, whatever the depth.
    Use it with the output scale ``gain(slope)``. This is the tailored activation transformation (TAT) for Leaky ReLU of
    Zhang, Botev and Martens, "Deep Learning without Shortcuts", ICLR 2022, who recommend 0.9.

    Parameters
    ----------
    depth
        Number of activation layers, an integer of at least 1, or an array of them.
    eta
        Wanted cosine similarity at the end, above 0 and below 1. Smaller means a slope closer to 1 (a straighter
        network). The arguments broadcast.

    Returns
    -------
    float or array of float64
        The slope, at least 0 and below 1. It falls with ``eta`` and rises with ``depth``.

    Raises
    ------
    ValueError
        No slope of at least 0 reaches ``eta`` in so few layers: even ReLU, which loses directions fastest, stays
        below. The error names what it reaches and which depth would do.

    Examples
    --------
    >>> from leakyrelu.slope import tailored
    >>> round(tailored(50), 4)
    0.4305
    """
    layers, target = np.broadcast_arrays(_layers(depth, least=1), _real(eta, "eta"))
    outside = (target <= 0.0) | (target >= 1.0)
    if outside.any():
        raise ValueError(
            f"eta = {float(target[outside][0])!r} cannot be reached: a cosine similarity must lie above 0 (a straight "
            "line, slope 1) and below 1 (which no finite depth reaches); 0.9 is the recommended value"
        )
    reach, _ = _similarity_of_unrelated(np.ones(target.shape), layers)
    if (short := reach < target).any():
        raise ValueError(_unreachable_eta(int(layers[short][0]), float(target[short][0]), float(reach[short][0])))
    return _like_input(_slope_of_bend(_bend_for(target, layers)), depth, eta)


@overload
def centered(depth: int, zeta: float = 1.5) -> float: ...
@overload
def centered(depth: ArrayLike, zeta: ArrayLike = 1.5) -> Any: ...
def centered(depth: ArrayLike, zeta: ArrayLike = 1.5) -> Any:
    """Return the slope ``a = (1 - sqrt(1 - d**2)) / d`` of the centered Leaky ReLU for ``depth`` layers.

    The centered Leaky ReLU ``(f(x) - mean(a)) / sqrt(variance(a))`` has mean 0, so unrelated inputs stay unrelated, and
    similar inputs move apart: one layer's similarity map has the slope ``s = 1 / (1 - C(0))`` at 1. ``depth`` of
    them should give ``zeta``, as in deep kernel shaping (Martens et al., 2021), hence ``s = zeta**(1/depth)``,
    ``k = C(0) = 1 - 1/s`` and ``d = 1 - pi*k``.

    Parameters
    ----------
    depth
        Number of activation layers, an integer of at least 1, or an array of them.
    zeta
        Wanted slope of the similarity map of the whole network at 1, above 1 (1 would be a linear network). The
        arguments broadcast.

    Returns
    -------
    float or array of float64
        The slope, at least 0 and below 1. It falls with ``zeta`` and rises with ``depth``.

    Raises
    ------
    ValueError
        No slope of at least 0 bends so much in so few layers; the error says which ``zeta`` or depth would do.

    Examples
    --------
    >>> from leakyrelu.slope import centered
    >>> round(centered(50), 3)
    0.796
    """
    layers, target = np.broadcast_arrays(_layers(depth, least=1), _real(zeta, "zeta"))
    outside = target <= 1.0
    if outside.any():
        raise ValueError(
            f"zeta = {float(target[outside][0])!r} cannot be reached: it must be above 1, the value of a linear "
            "network; 1.5 is the recommended value"
        )
    # expm1: 1 - zeta**(-1/depth) loses every digit in a very deep network or at a zeta close to 1.
    bend = -np.pi * np.expm1(-np.log(target) / layers)
    if (beyond := bend > 1.0).any():
        raise ValueError(_unreachable_zeta(int(layers[beyond][0]), float(target[beyond][0])))
    return _like_input(_slope_of_bend(bend), depth, zeta)


def _next_similarity(c: Floats, bend: Floats) -> Floats:
    """``C(c) = c + bend * K(c)``, kept at most 1 so that rounding cannot leave the domain of arccos."""
    return np.minimum(c + bend * _lost(c), 1.0)


def _lost(c: Floats) -> Floats:
    """``K(c) = (sin(t) - t * cos(t)) / pi`` with ``t = arccos(c)``; the product keeps sin exact near c = 1."""
    return np.asarray((np.sqrt((1.0 - c) * (1.0 + c)) - c * np.arccos(c)) / np.pi)


def _similarity_of_unrelated(bend: Floats, layers: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Similarity after ``layers`` layers from 0, and its derivative by the bend (``dK/dc = -arccos(c)/pi``)."""
    value, derivative = np.zeros(bend.shape), np.zeros(bend.shape)
    for layer in range(_one_by_one(layers)):
        inside = layer < layers
        step = derivative * (1.0 - bend * np.arccos(value) / np.pi) + _lost(value)
        derivative = np.where(inside, step, derivative)
        value = np.where(inside, _next_similarity(value, bend), value)
    deeper = (layers > ONE_BY_ONE) & (value < 1.0)
    if deeper.any():
        t, w, more = np.arccos(value[deeper]), bend[deeper], _more(layers[deeper])
        after = advance(t, w, more)
        change = advanced_derivative(t, -derivative[deeper] / np.sin(t), after, w, more)
        value[deeper], derivative[deeper] = np.cos(after), -np.sin(after) * change
    return value, derivative


def _one_by_one(layers: NDArray[np.int64]) -> int:
    """Return how many layers are taken one by one; the others at once."""
    return min(int(layers.max(initial=0)), ONE_BY_ONE)


def _more(layers: NDArray[np.int64]) -> Floats:
    """Return how many layers are left behind those taken one by one."""
    return (layers - ONE_BY_ONE).astype(np.float64)


def _bend_for(target: Floats, layers: NDArray[np.int64]) -> Floats:
    """Solve ``similarity(bend) = target`` on (0, 1]: Newton's steps, halving where one leaves the bracket."""
    # K is at most 1/pi from c = 0 on, so a layer adds at most bend/pi: a lower bound, and sharp for a tiny target.
    low, high = np.minimum(np.pi * target / layers, 1.0), np.ones(target.shape)
    bend = low
    for _ in range(200):
        value, derivative = _similarity_of_unrelated(bend, layers)
        low, high = np.where(value < target, bend, low), np.where(value < target, high, bend)
        newton = bend - (value - target) / derivative
        following = np.where((newton >= low) & (newton <= high), newton, (low + high) / 2.0)
        settled = np.abs(following - bend) <= 4.0 * np.finfo(np.float64).eps * bend
        bend = following
        if settled.all():
            break
    return bend


def _slope_of_bend(bend: Floats) -> Floats:
    """Solve ``bend = (1 - a)**2 / (1 + a**2)`` for a in [0, 1]: ``a = d / (1 + sqrt(1 - d**2))``, ``d = 1 - bend``.

    The textbook form ``(1 - sqrt(1 - d**2)) / d`` is 0/0 at a = 0, and ``1 - d**2`` cancels near a = 1.
    """
    slope: Floats = (1.0 - bend) / (1.0 + np.sqrt(bend * (2.0 - bend)))
    return slope


def _unreachable_eta(depth: int, eta: float, reach: float) -> str:
    """Return the message why no slope reaches eta, and which depth would."""
    layers, value, limit = depth, np.asarray(reach), 100_000
    while value < eta and layers < ONE_BY_ONE:
        value, layers = _next_similarity(value, np.ones(())), layers + 1
    if value < eta:
        layers += math.ceil(layers_between(math.acos(value), math.acos(eta), 1.0))
    enough = f"at least {layers}" if layers <= limit else f"more than {limit}"
    # Rounded down: the advice must itself be reachable.
    allowed = np.floor(reach * 1e4) / 1e4
    shown = f"{reach:.4f}" if round(reach, 4) < eta else f"{reach!r}"
    return (
        f"no slope of at least 0 gives eta = {eta!r} at depth {depth}: even ReLU (slope 0) brings unrelated inputs "
        f"only to {shown} in {depth} layers; use an eta of at most {allowed:.4f} or a depth of {enough}"
    )


def _unreachable_zeta(depth: int, zeta: float) -> str:
    """Return the message why no slope reaches zeta, and which zeta or depth would."""
    most_a_layer = -np.log1p(-1.0 / np.pi)  # log(s) of ReLU, whose bend is 1
    enough = int(np.ceil(np.log(zeta) / most_a_layer))
    allowed = np.floor(np.exp(depth * most_a_layer) * 1e4) / 1e4
    return (
        f"no slope of at least 0 gives zeta = {zeta!r} at depth {depth}: even ReLU (slope 0) reaches only "
        f"{allowed:.4f}; use a zeta of at most {allowed:.4f} or a depth of at least {enough}"
    )


def _real(value: ArrayLike, name: str) -> Floats:
    """Return value as float64; refuse what is not a finite real number."""
    array = np.asarray(value)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"{name} must be a real number or an array of them, got {_kind(value, array)}")
    numbers = array.astype(np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError(f"{name} must be finite, got {float(numbers[~np.isfinite(numbers)][0])}")
    return numbers


def _layers(depth: ArrayLike, *, least: int) -> NDArray[np.int64]:
    """Return depth as integers; refuse fractions and what is below least."""
    array = np.asarray(depth)
    if array.dtype == object and isinstance(depth, int):
        raise ValueError(f"depth must be between {least} and {_DEEPEST}, got an integer of {depth.bit_length()} bits")
    if array.dtype.kind not in "iu":
        raise TypeError(f"depth must be an integer or an array of them, got {_kind(depth, array)}")
    if (array < least).any():
        raise ValueError(f"depth must be at least {least}, got {int(array[array < least][0])}")
    if (array > _DEEPEST).any():
        raise ValueError(f"depth must be at most {_DEEPEST}, got {int(array[array > _DEEPEST][0])}")
    return array.astype(np.int64)


def _kind(value: object, array: NDArray[Any]) -> str:
    return f"an array of {array.dtype}" if array.ndim else f"{value!r} ({type(value).__name__})"


def _like_input(result: Floats, *inputs: object) -> Any:
    """Return a Python float where every input was a Python number, else what a NumPy function returns."""
    if all(isinstance(value, int | float) for value in inputs):
        return float(result)
    return np.asarray(result)[()]
