"""Kinds of normalization layers that can be joined with a Leaky ReLU: PyTorch's own, and known classes of libraries."""

from __future__ import annotations

from typing import Any, NamedTuple

from torch import nn

__all__ = ["BATCH_NORMS", "INSTANCE_NORMS", "NORMS", "NormKind", "activation_inside", "kind_of", "obstacle_inside"]

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
NORMS: tuple[type[nn.Module], ...] = (*BATCH_NORMS, *INSTANCE_NORMS, nn.GroupNorm)


class NormKind(NamedTuple):
    """What a normalization layer computes.

    Parameters
    ----------
    base
        The layer of PyTorch that computes the same normalization, of the same parameters and buffers.
    inside
        Attributes that run behind the normalization, in this order, the activation last; none for a plain one.
    frozen
        Whether its statistics are the running ones in training, too, and no parameter has a gradient.
    """

    base: type[nn.Module]
    inside: tuple[str, ...] = ()
    frozen: bool = False


_WITH_ACTIVATION = ("drop", "act")
# What each class computes was read off its source; tests compare outputs and gradients.
_OF_LIBRARIES = {
    "timm.layers.norm.GroupNorm": NormKind(nn.GroupNorm),
    "timm.layers.norm.GroupNorm1": NormKind(nn.GroupNorm),
    "timm.layers.norm_act.BatchNormAct2d": NormKind(nn.BatchNorm2d, _WITH_ACTIVATION),
    "timm.layers.norm_act.SyncBatchNormAct": NormKind(nn.SyncBatchNorm, _WITH_ACTIVATION),
    "timm.layers.norm_act.FrozenBatchNormAct2d": NormKind(nn.BatchNorm2d, _WITH_ACTIVATION, frozen=True),
    "timm.layers.norm_act.GroupNormAct": NormKind(nn.GroupNorm, _WITH_ACTIVATION),
    "timm.layers.norm_act.GroupNorm1Act": NormKind(nn.GroupNorm, _WITH_ACTIVATION),
    "torchvision.ops.misc.FrozenBatchNorm2d": NormKind(nn.BatchNorm2d, frozen=True),
    "transformers.models.bit.modeling_bit.BitGroupNormActivation": NormKind(nn.GroupNorm, ("activation",)),
    "transformers.models.poolformer.modeling_poolformer.PoolFormerGroupNorm": NormKind(nn.GroupNorm),
}


def kind_of(module: nn.Module) -> NormKind | None:
    """Return what a normalization layer computes; None for a layer of no known kind."""
    cls = type(module)
    if cls in NORMS:
        return NormKind(cls)
    return _OF_LIBRARIES.get(f"{cls.__module__}.{cls.__qualname__}")


def activation_inside(module: nn.Module) -> Any:
    """Return the activation that runs inside a normalization layer; None where there is none, or an identity."""
    kind = kind_of(module)
    found = getattr(module, kind.inside[-1], None) if kind is not None and kind.inside else None
    return None if isinstance(found, nn.Identity) else found


def obstacle_inside(module: nn.Module) -> str | None:
    """Return what a normalization layer of a known kind does besides normalizing and activating, or None."""
    kind = kind_of(module)
    between = () if kind is None else (getattr(module, name, None) for name in kind.inside[:-1])
    for part in between:
        if part is not None and not isinstance(part, nn.Identity) and not (isinstance(part, nn.Dropout) and not part.p):
            return f"{type(part).__name__} stands between its normalization and its activation"
    if getattr(module, "_fast_norm", False):
        return "it computes in 16 bits under autocast (timm's fast norm)"
    return None
