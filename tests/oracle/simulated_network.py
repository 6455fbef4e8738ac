"""Wide random layers in NumPy: what a layer really does to size, mean and similarity, measured on drawn tensors.

A tensor has the shape (inputs, places, channels). Its inputs, and the places of one input, are Gaussian with the
wanted second moment, mean and similarities; the channels are independent. The sample is shaped so that its own moments
are the wanted ones exactly, which leaves the noise of the layer alone.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Moments(NamedTuple):
    """Second moment, mean, and the cosines: same place of two inputs, two places of one, two places of two."""

    q: float
    m: float
    c: float
    s: float
    t: float


def covariance(moments, inputs, places):
    """Covariance of the numbers of a channel, input by input."""
    q, m, c, s, t = moments
    same_input, same_place = (
        np.kron(*pair)
        for pair in (
            (np.eye(inputs), np.ones((places, places))),
            (np.ones((inputs, inputs)), np.eye(places)),
        )
    )
    other_input, other_place = 1 - same_input, 1 - same_place
    cosine = (
        same_input * same_place
        + c * other_input * same_place
        + s * same_input * other_place
        + t * other_input * other_place
    )
    return q * cosine - m * m


def draw(rng, moments, channels, inputs=2, places=2):
    """Gaussian numbers whose sample has these moments exactly; channels must be more than inputs times places."""
    rows = inputs * places
    noise = rng.standard_normal((rows, channels))
    noise -= noise.mean(axis=1, keepdims=True)
    whitening = np.linalg.inv(np.linalg.cholesky(noise @ noise.T / channels))
    eigenvalues, vectors = np.linalg.eigh(covariance(moments, inputs, places))
    if eigenvalues.min() < -1e-9:
        raise ValueError(f"no numbers have these moments: {moments}")
    root = vectors * np.sqrt(np.clip(eigenvalues, 0, None))
    return (moments.m + root @ whitening @ noise).reshape(inputs, places, channels)


def measured(x):
    """Moments of a tensor: of its numbers, and of all pairs of them in a channel."""
    inputs, places, _ = x.shape
    square = np.square(x).mean()

    def pairs(summed, number):
        return np.square(summed).mean() / square / number

    # The mean square of a sum of n numbers is n (1 + (n - 1) k) times that of one.
    at_place, in_input, everywhere = x.sum(axis=0), x.sum(axis=1), x.sum(axis=(0, 1))
    c = (pairs(at_place, inputs) - 1) / max(inputs - 1, 1)
    s = (pairs(in_input, places) - 1) / max(places - 1, 1)
    rest = pairs(everywhere, inputs * places) - 1 - (inputs - 1) * c - (places - 1) * s
    t = rest / max((inputs - 1) * (places - 1), 1)
    return Moments(float(square), float(x.mean()), float(c), float(s), float(t))


def dense(rng, x, width, gain2=1.0, bias2=0.0):
    """A linear layer with weights of variance gain2 / fan in."""
    fan = x.shape[-1]
    return x @ rng.normal(0, np.sqrt(gain2 / fan), (fan, width)) + rng.normal(0, np.sqrt(bias2), width)


def convolution(rng, x, width, taps=3, gain2=1.0, stride=1, padding="zero"):
    """A 1-D convolution with taps // 2 places of padding on both sides, zero or circular."""
    places, fan = x.shape[1:]
    weights = rng.normal(0, np.sqrt(gain2 / (taps * fan)), (taps, fan, width))
    mode = {"zero": "constant", "circular": "wrap"}[padding]
    padded = np.pad(x, ((0, 0), (taps // 2, taps // 2), (0, 0)), mode=mode)
    return sum(padded[:, k : k + places : stride] @ weights[k] for k in range(taps))


def transposed_convolution(rng, x, width, stride, gain2=1.0):
    """A 1-D transposed convolution whose kernel is its stride."""
    inputs, places, fan = x.shape
    weights = rng.normal(0, np.sqrt(gain2 / fan), (stride, fan, width))
    return np.stack([x @ each for each in weights], axis=2).reshape(inputs, stride * places, width)


def leaky_relu(x, slope):
    """Leaky ReLU for any real slope."""
    return np.where(x > 0, x, slope * x)


def normalized(x, axes):
    """Numbers with the mean off and divided by the standard deviation, both over these axes."""
    return (x - x.mean(axis=axes, keepdims=True)) / x.std(axis=axes, keepdims=True)


def group_norm(x, channels):
    """A group norm with so many channels a group; 1 is an instance norm."""
    groups = x.reshape(*x.shape[:2], -1, channels)
    return normalized(groups, (1, 3)).reshape(x.shape)


def windows(x, places):
    """Windows of so many places beside each other, as an axis of their own."""
    return x.reshape(x.shape[0], -1, places, x.shape[-1])


def dropout(rng, x, p):
    """Inverted dropout, a mask of its own for each number."""
    return x * (rng.random(x.shape) >= p) / (1 - p)


def attention(queries, keys, values, factor):
    """Softmax attention of one head over all places."""
    scores = factor * queries @ keys.swapaxes(1, 2)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True) @ values
