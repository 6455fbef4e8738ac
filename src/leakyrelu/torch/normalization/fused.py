"""What layers that compute a normalization and a Leaky ReLU together have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.utils.parametrize import is_parametrized

from leakyrelu.torch._compat import SharedState, in_forward_mode
from leakyrelu.torch.activations.eager import PLAIN_TENSORS, has_kernels, is_eager, observers
from leakyrelu.torch.normalization.autograd import normalize
from leakyrelu.torch.normalization.kinds import BATCH_NORMS, INSTANCE_NORMS, NORMS, kind_of, obstacle_inside
from leakyrelu.torch.normalization.statistics import Normalization, Running

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


__all__ = ["FusedNorm"]


_ANY_AXES = range(2, 65)
# Axes of a batch. nn.SyncBatchNorm and nn.GroupNorm take any number from two on.
_AXES: Mapping[type[nn.Module], tuple[int, ...]] = {
    nn.BatchNorm1d: (2, 3),
    nn.BatchNorm2d: (4,),
    nn.BatchNorm3d: (5,),
    nn.InstanceNorm1d: (3,),
    nn.InstanceNorm2d: (4,),
    nn.InstanceNorm3d: (5,),
}


# Elements a statistic from which on 16-bit data are joined. With fewer the gradient of the input nearly cancels, and
# what rounding the output loses is large beside the rest. Its error relative to that in float64, over 8192 channels
# with biases of 0 to 1.9 times their float32 weight, in multiples of the pair's error: median and 99th percentile
# 6000 and more at 2, 2.4 to 3.1 and 9 to 14 at 3, 1.5 to 2.0 and 4.5 to 7.4 at 4, 1.2 to 1.5 and 1.9 to 3.1 at 8.
# (Several processes take no decision of their own: each has to exchange its statistics.)
_LEAST_IN_16_BITS = 8

# Settings of the normalization layers, which are also those of the fused layer.
_SETTINGS = (
    *("eps", "momentum", "affine", "track_running_stats", "process_group"),
    *("num_features", "num_channels", "num_groups"),
)


class FusedNorm(SharedState):
    """A layer in place of a normalization, with its parameters, buffers and settings, that activates its output, too.

    Raises
    ------
    TypeError
        If `norm` is of no kind that is known.
    """

    # TorchScript compiles properties, and it does not support the Python of these.
    __jit_unused_properties__ = ("norm", *_SETTINGS)

    _norm: nn.Module
    weight: nn.Parameter | None
    bias: nn.Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        kind = kind_of(norm)
        if kind is None:
            kinds = ", ".join(f"nn.{kind.__name__}" for kind in NORMS)
            raise TypeError(f"norm must be one of {kinds} (no subclass, which may do more), not {type(norm).__name__}")
        if (reason := obstacle_inside(norm)) is not None:
            raise TypeError(f"this {type(norm).__name__} cannot be joined with its activation: {reason}")
        self._kind = kind
        object.__setattr__(self, "_norm", norm)  # not a child: its keys would get a prefix
        self.share_state(norm)
        self.training = norm.training

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        vars(self).setdefault("_kind", kind_of(self._norm))  # layers that version 0.1 saved have none

    @property
    def norm(self) -> nn.Module:
        """The normalization layer, which shares its parameters and buffers with this one.

        Raises
        ------
        RuntimeError
            While parameters of this layer are pruned or parametrized: the normalization layer has none then.
        """
        self.require_shared_parameters()
        return self._norm.train(self.training)

    def require_shared_parameters(self) -> None:
        """Raise a RuntimeError while the normalization layer lacks parameters that are computed in this one."""
        if apart := self.parameters_apart():
            raise RuntimeError(
                f"this {type(self).__name__} computes its {' and '.join(apart)} by pruning or a parametrization, "
                "which the normalization layer inside has no part in; make that permanent first "
                "(torch.nn.utils.prune.remove, torch.nn.utils.parametrize.remove_parametrizations)"
            )

    def normalized(self, x: Tensor) -> Tensor:
        """Return the output of the normalization layer alone."""
        if is_parametrized(self._norm):
            raise RuntimeError(
                f"the {self._kind.base.__name__} inside this {type(self).__name__} is parametrized, and the layer "
                "would not have its parameters; parametrize the layer itself, or the normalization before they are "
                "joined (save_memory leaves it then)"
            )
        output: Tensor = self.call_owner(self._norm, x)
        return output

    def fused(self, x: Tensor, slope: float) -> Tensor:
        """Return the activated, normalized input; shape, dtype and strides are those of the pair's output."""
        norm: Any = self._norm
        if self._kind.base is nn.GroupNorm and torch.is_autocast_enabled(x.device.type) and not x.is_cpu:
            x = x.float()  # autocast's rule for nn.GroupNorm on these devices
        normalization, running = self._normalization(norm, slope, *self._statistics())
        if x.ndim == 2:
            return normalize(x.unsqueeze(2), self.weight, self.bias, normalization, running).squeeze(2)
        return normalize(x, self.weight, self.bias, normalization, running)

    def can_fuse(self, x: Any) -> bool:
        """Whether memory can be saved here; in all other cases, errors included, the pair is to run."""
        norm, base = cast("Any", self._norm), self._kind.base
        if norm.training != self.training:
            norm.train(self.training)
        mean, var = self._statistics()
        if (
            type(x) not in PLAIN_TENSORS
            or not is_eager()
            or observers()  # a census counts the inputs of the activation, which a fused layer never computes
            or in_forward_mode()
            or not has_kernels(x)
            or x.is_neg()
            or x.ndim not in _AXES.get(base, _ANY_AXES)
            or not x.numel()
        ):
            return False
        if base is nn.GroupNorm:
            if x.shape[1] != norm.num_channels:
                return False
            count = x.numel() // (x.shape[0] * norm.num_groups)
        else:
            if x.shape[1] != (norm.weight.shape[0] if self._kind.frozen else norm.num_features):
                return False
            count = x.numel() // x.shape[1] // (1 if base in BATCH_NORMS else x.shape[0])
        if (mean is None) is not (var is None):
            return False
        estimates = self._estimates(mean)
        if norm.eps < 0 or (estimates and (norm.eps == 0 or count <= 1)):  # PyTorch refuses most of these
            return False
        if estimates and x.element_size() == 2 and count < _LEAST_IN_16_BITS and self._process_group(norm) is None:
            return False
        device, dtypes = x.device, (x.dtype, torch.float32)
        try:
            tables = self.weight, self.bias, mean, var
        except AttributeError:  # they are computed when the normalization layer runs, which is pruned
            return False
        return all(
            table is None or (table.dtype in dtypes and table.device == device and type(table) in PLAIN_TENSORS)
            for table in tables
        )

    def _statistics(self) -> tuple[Tensor | None, Tensor | None]:
        norm, base = cast("Any", self._norm), self._kind.base
        if base is nn.GroupNorm:
            return None, None
        if base in BATCH_NORMS and self.training and not self._kind.frozen and not norm.track_running_stats:
            return None, None
        return self.running_mean, self.running_var

    def _estimates(self, running_mean: Tensor | None) -> bool:
        norm = cast("Any", self._norm)
        if self._kind.base is nn.GroupNorm:
            return True
        if self._kind.base in INSTANCE_NORMS:
            return self.training or not norm.track_running_stats
        return running_mean is None or (self.training and not self._kind.frozen)

    def _normalization(
        self, norm: Any, slope: float, mean: Tensor | None, var: Tensor | None
    ) -> tuple[Normalization, Running | None]:
        estimate = self._estimates(mean)
        factor = None
        if self._kind.base is nn.GroupNorm:
            return Normalization("group", norm.eps, slope, True, norm.num_groups), None
        instance = self._kind.base in INSTANCE_NORMS
        batches: Any = None if instance or self._kind.frozen else self.num_batches_tracked
        if self.training and batches is not None and norm.track_running_stats:
            batches.add_(1)
        if estimate and mean is not None:
            factor = norm.momentum
            if factor is None:
                factor = 0.0 if instance else 1.0 / float(batches)
        normalization = Normalization(
            "instance" if instance else "batch",
            norm.eps,
            slope,
            estimate,
            process_group=self._process_group(norm),
        )
        return normalization, None if mean is None or var is None else Running(mean, var, factor)

    def _process_group(self, norm: Any) -> Any:
        if not (
            self._kind.base is nn.SyncBatchNorm and self.training and dist.is_available() and dist.is_initialized()
        ):
            return None
        group = norm.process_group or dist.group.WORLD
        return group if dist.get_world_size(group) > 1 else None

    def reset_parameters(self) -> None:
        """Initialize parameters and statistics as the normalization layer does."""
        self.call_owner(cast("Any", self._norm).reset_parameters)

    def state_owner(self) -> nn.Module:
        """Return the normalization layer, which loads old checkpoints and reports statistics that are not tracked."""
        return self._norm


def _setting(name: str) -> property:
    def read(layer: FusedNorm) -> Any:
        return getattr(layer._norm, name)

    def write(layer: FusedNorm, value: Any) -> None:
        setattr(layer._norm, name, value)

    return property(read, write, doc=f"{name} of the normalization layer.")


for _name in _SETTINGS:
    setattr(FusedNorm, _name, _setting(_name))
