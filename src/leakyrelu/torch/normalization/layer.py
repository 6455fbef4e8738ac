"""Normalization and Leaky ReLU as one layer that keeps only its output."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
import torch.distributed as dist
from torch import nn

from leakyrelu._checks import positive_number
from leakyrelu.torch._compat import SharedState, in_forward_mode
from leakyrelu.torch.activations.eager import PLAIN_TENSORS, has_kernels, is_eager, observers
from leakyrelu.torch.activations.functional import leaky_relu
from leakyrelu.torch.normalization.autograd import normalize
from leakyrelu.torch.normalization.statistics import Normalization, Running

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor


__all__ = ["BATCH_NORMS", "INSTANCE_NORMS", "NORMS", "NormLeakyReLU"]


BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
INSTANCE_NORMS = (nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)
NORMS: tuple[type[nn.Module], ...] = (*BATCH_NORMS, *INSTANCE_NORMS, nn.GroupNorm)
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


# Settings of the normalization layers, which are also those of the fused layer.
_SETTINGS = (
    *("eps", "momentum", "affine", "track_running_stats", "process_group"),
    *("num_features", "num_channels", "num_groups"),
)


class NormLeakyReLU(SharedState):
    """A normalization layer and the Leaky ReLU behind it, keeping only the output for the backward pass.

    With v = weight * (x - mean) / sqrt(var + eps) + bias and a = negative_slope, y = v if v > 0 else a * v. The same
    function as `nn.Sequential(norm, nn.LeakyReLU(a))` in training and in evaluation, with the same running statistics
    and gradients within rounding, and derivatives of any order. The pair keeps the input of the normalization and that
    of the activation (one of them if the activation is in place, and the output); this layer keeps y alone, which
    the next layer keeps as well, and one number for each mean. The input of a channel with |bias| > 16 |weight|
    (2 |weight| in 16 bits), or with a weight of zero or nearly, cannot be recovered from its output: such channels keep
    their own normalized input.

    Parameters, buffers and keys of the `state_dict` are those of `norm`, and they are shared with it, as are settings
    such as `eps` and `momentum`: what the optimizer holds stays valid, and `norm` can be put back at any time. A batch
    with one element per statistic, a shape or dtype that `norm` refuses, `torch.compile`, `torch.export`,
    `torch.jit.trace`, `torch.func` transforms and forward-mode derivatives run the pair itself. `torch.jit.script` and
    `torch.fx.symbolic_trace` do not support it.

    Parameters
    ----------
    norm
        `nn.BatchNorm1d`, `2d`, `3d`, `nn.SyncBatchNorm`, `nn.InstanceNorm1d`, `2d`, `3d` or `nn.GroupNorm`, affine or
        not. It is shared, not copied. For `nn.SyncBatchNorm` the processes exchange statistics through its process
        group, on any device that the group's backend knows (PyTorch's own layer refuses the CPU), and second
        derivatives do not exist.
    negative_slope
        The slope a: finite and positive, since the activation has to be inverted.

    Raises
    ------
    TypeError
        If `norm` is none of these, or the slope is not a number.
    ValueError
        If the slope is not positive and finite.

    Notes
    -----
    The output must not be changed in place afterwards: the backward pass raises PyTorch's error if it was. Recovering
    the input from the output follows Rota Bulo, Porzi, Kontschieder, "In-Place Activated
    BatchNorm for Memory-Optimized Training of DNNs", CVPR 2018.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from leakyrelu.torch import NormLeakyReLU
    >>> norm = nn.BatchNorm2d(3)
    >>> layer = NormLeakyReLU(norm, 0.1)
    >>> x = torch.randn(2, 3, 4, 4)
    >>> torch.allclose(layer(x), nn.functional.leaky_relu(norm(x), 0.1), atol=1e-6)
    True
    >>> list(layer.state_dict()) == list(norm.state_dict())
    True
    """

    # TorchScript compiles properties, and it does not support the Python of these.
    __jit_unused_properties__ = ("norm", *_SETTINGS)

    _norm: nn.Module
    weight: nn.Parameter | None
    bias: nn.Parameter | None
    running_mean: Tensor | None
    running_var: Tensor | None
    num_batches_tracked: Tensor | None

    def __init__(self, norm: nn.Module, negative_slope: float = 0.01) -> None:
        super().__init__()
        if type(norm) not in NORMS:
            kinds = ", ".join(f"nn.{kind.__name__}" for kind in NORMS)
            raise TypeError(f"norm must be one of {kinds} (no subclass, which may do more), not {type(norm).__name__}")
        self.negative_slope = positive_number(
            negative_slope,
            "negative_slope",
            ": the backward pass recovers the input of the activation from its output. Keep the two layers apart, with "
            "leakyrelu.torch.LeakyReLU, which takes any slope",
        )
        object.__setattr__(self, "_norm", norm)  # not a child: its keys would get a prefix
        self.share_state(norm)
        self.training = norm.training

    @property
    def norm(self) -> nn.Module:
        """The normalization layer, which shares its parameters and buffers with this one."""
        return self._norm.train(self.training)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Return the activated, normalized input; shape, dtype and strides are those of the pair's output."""
        norm: Any = self._norm
        if norm.training != self.training:
            norm.train(self.training)
        weight, bias = self.weight, self.bias
        statistics = self._statistics()
        if not self._is_fused(input, (weight, bias, *statistics)):
            return leaky_relu(norm(input), self.negative_slope)
        if type(norm) is nn.GroupNorm and torch.is_autocast_enabled(input.device.type) and not input.is_cpu:
            input = input.float()  # noqa: A001  (autocast's rule for nn.GroupNorm on these devices)
        normalization, running = self._normalization(norm, *statistics)
        if input.ndim == 2:
            return normalize(input.unsqueeze(2), weight, bias, normalization, running).squeeze(2)
        return normalize(input, weight, bias, normalization, running)

    def _is_fused(self, x: Any, tables: tuple[Tensor | None, ...]) -> bool:
        """Whether memory can be saved here; in all other cases, errors included, the pair runs."""
        norm: Any = self._norm
        if (
            type(x) not in PLAIN_TENSORS
            or not is_eager()
            or observers()  # a census counts the inputs of the activation, which a fused layer never computes
            or in_forward_mode()
            or not has_kernels(x)
            or x.is_neg()
            or x.ndim not in _AXES.get(type(norm), _ANY_AXES)
            or not x.numel()
        ):
            return False
        if type(norm) is nn.GroupNorm:
            if x.shape[1] != norm.num_channels:
                return False
            count = x.numel() // (x.shape[0] * norm.num_groups)
        else:
            if x.shape[1] != norm.num_features:
                return False
            count = x.numel() // x.shape[1] // (1 if type(norm) in BATCH_NORMS else x.shape[0])
        _, _, mean, var = tables
        if (count <= 1 and self._estimates(mean)) or (mean is None) is not (var is None):
            return False
        device, dtypes = x.device, (x.dtype, torch.float32)
        return all(
            table is None or (table.dtype in dtypes and table.device == device and type(table) in PLAIN_TENSORS)
            for table in tables
        )

    def _statistics(self) -> tuple[Tensor | None, Tensor | None]:
        norm: Any = self._norm
        if type(norm) is nn.GroupNorm or (type(norm) in BATCH_NORMS and self.training and not norm.track_running_stats):
            return None, None
        return self.running_mean, self.running_var

    def _estimates(self, running_mean: Tensor | None) -> bool:
        norm = cast("Any", self._norm)
        if type(norm) is nn.GroupNorm:
            return True
        if type(norm) in INSTANCE_NORMS:
            return self.training or not norm.track_running_stats
        return self.training or running_mean is None

    def _normalization(
        self, norm: Any, mean: Tensor | None, var: Tensor | None
    ) -> tuple[Normalization, Running | None]:
        estimate = self._estimates(mean)
        factor = None
        if type(norm) is nn.GroupNorm:
            return Normalization("group", norm.eps, self.negative_slope, True, norm.num_groups), None
        instance = type(norm) in INSTANCE_NORMS
        batches: Any = self.num_batches_tracked
        if not instance and self.training and norm.track_running_stats and batches is not None:
            batches.add_(1)
        if estimate and mean is not None:
            factor = norm.momentum
            if factor is None:
                factor = 0.0 if instance else 1.0 / float(batches)
        normalization = Normalization(
            "instance" if instance else "batch",
            norm.eps,
            self.negative_slope,
            estimate,
            process_group=self._process_group(norm),
        )
        return normalization, None if mean is None or var is None else Running(mean, var, factor)

    def _process_group(self, norm: Any) -> Any:
        if not (type(norm) is nn.SyncBatchNorm and self.training and dist.is_available() and dist.is_initialized()):
            return None
        group = norm.process_group or dist.group.WORLD
        return group if dist.get_world_size(group) > 1 else None

    def reset_parameters(self) -> None:
        """Initialize parameters and statistics as the normalization layer does."""
        cast("Any", self._norm).reset_parameters()

    def state_owner(self) -> nn.Module:
        """Return the normalization layer, which loads old checkpoints and reports statistics that are not tracked."""
        return self._norm

    def extra_repr(self) -> str:
        """Return the two layers that this one replaces."""
        return f"{self._norm}, negative_slope={self.negative_slope}"


def _setting(name: str) -> property:
    def read(layer: NormLeakyReLU) -> Any:
        return getattr(layer._norm, name)

    def write(layer: NormLeakyReLU, value: Any) -> None:
        setattr(layer._norm, name, value)

    return property(read, write, doc=f"{name} of the normalization layer.")


for _name in _SETTINGS:
    setattr(NormLeakyReLU, _name, _setting(_name))
