"""Normalization and Leaky ReLU as one layer that keeps only its output."""

from __future__ import annotations

from typing import TYPE_CHECKING

from leakyrelu._checks import positive_number
from leakyrelu.torch.activations.functional import leaky_relu
from leakyrelu.torch.normalization.fused import FusedNorm
from leakyrelu.torch.normalization.kinds import activation_inside

if TYPE_CHECKING:
    from torch import Tensor, nn

__all__ = ["NormLeakyReLU"]


class NormLeakyReLU(FusedNorm):
    """A normalization layer and the Leaky ReLU behind it, keeping only the output for the backward pass.

    With v = weight * (x - mean) / sqrt(var + eps) + bias and a = negative_slope, y = v if v > 0 else a * v. The same
    function as `nn.Sequential(norm, nn.LeakyReLU(a))` in training and in evaluation, with the same running statistics
    and gradients within rounding, and derivatives of any order. The pair keeps the input of the normalization and that
    of the activation (one of them if the activation is in place, and the output); this layer keeps y alone, which
    the next layer keeps as well, and one number for each mean. The input of a channel with |bias| > 16 |weight|
    (2 |weight| in 16 bits), with a weight of zero or nearly, or with a bias and a variance that is small beside eps,
    cannot be recovered from its output: such channels keep their own normalized input. In 16 bits, fewer than 8
    elements a statistic run the pair.

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

    _activates = False

    def __init__(self, norm: nn.Module, negative_slope: float = 0.01) -> None:
        super().__init__(norm)
        self.negative_slope = positive_number(
            negative_slope,
            "negative_slope",
            ": the backward pass recovers the input of the activation from its output. Keep the two layers apart, with "
            "leakyrelu.torch.LeakyReLU, which takes any slope",
        )
        activation = activation_inside(norm)
        if activation is not None and getattr(activation, "negative_slope", None) != self.negative_slope:
            raise ValueError(
                f"the {type(norm).__name__} has an activation of its own, {activation}, and that is no Leaky ReLU of "
                f"slope {self.negative_slope}; make it an nn.Identity() or an nn.LeakyReLU({self.negative_slope})"
            )
        self._activates = activation is not None

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Return the activated, normalized input; shape, dtype and strides are those of the pair's output."""
        if self.can_fuse(input):
            return self.fused(input, self.negative_slope)
        output = self.normalized(input)
        return output if self._activates else leaky_relu(output, self.negative_slope)

    def extra_repr(self) -> str:
        """Return the two layers that this one replaces."""
        return f"{self._norm}, negative_slope={self.negative_slope}"
