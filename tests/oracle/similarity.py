"""Similarity of unrelated inputs in plain networks: closed form, and simulation in float64, from the definitions."""

from __future__ import annotations

import numpy as np


def through_layer(slope, c):
    """Cosine behind a Leaky ReLU in front of which it is c, by the first arc-cosine kernel (Cho and Saul 2009)."""
    angle = np.arccos(np.clip(c, -1.0, 1.0))
    kernel = (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / np.pi
    return ((1 - slope) ** 2 * kernel + 2 * slope * c) / (1 + slope**2)


def through_layers(slope, depth, c=0.0):
    for _ in range(depth):
        c = through_layer(slope, c)
    return c


def slope_for(eta, depth):
    """The slope that gives eta, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if through_layers(middle, depth) > eta else (low, middle)
    return (low + high) / 2


def last_activation(weights, inputs, slope):
    """Output of the last activation of a plain network without biases; one weight matrix for each layer."""
    x = np.asarray(inputs, np.float64)
    for weight in weights:
        x = x @ np.asarray(weight, np.float64).T
        x = np.where(x > 0, x, slope * x)
    return x


def ratio_of_means(outputs):
    """E<u, v> / E|u||v| over all pairs of rows of each output, and its jackknife over the outputs."""
    products, norms = [], []
    for rows in outputs:
        pairs = [(u, v) for k, u in enumerate(rows) for v in rows[:k]]
        products.append(np.mean([u @ v for u, v in pairs]))
        norms.append(np.mean([np.linalg.norm(u) * np.linalg.norm(v) for u, v in pairs]))
    count = len(products)
    without = [np.mean(products[:k] + products[k + 1 :]) / np.mean(norms[:k] + norms[k + 1 :]) for k in range(count)]
    error = np.sqrt((count - 1) / count * sum((each - np.mean(without)) ** 2 for each in without))
    return np.mean(products) / np.mean(norms), error
