"""The list of networks: name, how to make it, and a batch for it. It depends on nothing of leakyrelu.

Each is made when it is asked for, with random weights; a name begins with its library. "with ReLU" is a network whose
smooth activations are replaced by ReLU. Install the libraries with ``make zoo-env``, which see for where they live.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.zoo import images, others, sequences, timm_models

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.zoo.network import Network

NETWORKS: dict[str, Network] = {**timm_models.NETWORKS, **images.NETWORKS, **others.NETWORKS, **sequences.NETWORKS}
"""Every network by its name."""


def library(name: str) -> str:
    """Return the library of a network."""
    return name.partition("/")[0]


def chosen(words: list[str], among: Mapping[str, Any] = NETWORKS) -> dict[str, Any]:
    """Return the networks of these names, and those whose name contains a word that is none; without words all."""
    parts = [word for word in words if word not in among]
    found = {
        name: network
        for name, network in among.items()
        if not words or name in words or any(part in name for part in parts)
    }
    if not found:
        raise SystemExit(f"no network is named like {', '.join(words)}; libraries: {sorted({*map(library, among)})}")
    return found
