"""Layers around `leaky_relu`: PyTorch's own with less memory, and the zero-centered one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import nn

from leakyrelu import slope as _formulas
from leakyrelu._checks import finite_number
from leakyrelu.torch._compat import is_scripting
from leakyrelu.torch.activations.functional import leaky_relu, leaky_relu_unscripted
from leakyrelu.torch.activations.parametric import prelu

if TYPE_CHECKING:
    from torch import Tensor


class LeakyReLU(nn.LeakyReLU):
    """Leaky ReLU as a layer, f(x) = x if x > 0 else negative_slope * x; drop-in for `torch.nn.LeakyReLU`.

    It is a `torch.nn.LeakyReLU` (`isinstance` says so), prints like one, and has no state: checkpoints load both ways.
    The backward pass keeps one bit an element instead of the input, and `inplace=True` takes every slope; see
    `leakyrelu.torch.leaky_relu`, which also lists dtypes, derivatives and errors.

    Parameters
    ----------
    negative_slope
        Slope for x <= 0: any number.
    inplace
        Write the result over the input.

    Examples
    --------
    >>> import torch
    >>> from leakyrelu.torch import LeakyReLU
    >>> layer = LeakyReLU(0.25)
    >>> layer
    LeakyReLU(negative_slope=0.25)
    >>> layer(torch.tensor([-2.0, 3.0])).tolist()
    [-0.5, 3.0]
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Return f(input); shape, dtype and strides as `torch.nn.LeakyReLU` gives them."""
        if is_scripting():
            return leaky_relu(input, self.negative_slope, self.inplace)
        return leaky_relu_unscripted(input, self.negative_slope, self.inplace)


class PReLU(nn.PReLU):
    """Leaky ReLU with learned slopes, f(x) = x if x > 0 else weight * x; drop-in for `torch.nn.PReLU`.

    It is a `torch.nn.PReLU` (`isinstance` says so), with the same parameter `weight` under the same key, and prints
    like one: checkpoints load both ways. The backward pass keeps the output, which the next layer keeps anyway,
    instead of the input, and computes both gradients in one pass; see `leakyrelu.torch.prelu`, which also says when
    more is kept, and lists dtypes, derivatives and errors. The output must not be changed in place by what follows.

    Weight decay pulls slopes towards 0 and thereby the layer towards a ReLU (He, Zhang, Ren, Sun, "Delving Deep into
    Rectifiers", ICCV 2015, use none on them): `leakyrelu.torch.parameter_groups` leaves them out.

    Parameters
    ----------
    num_parameters
        1 slope for all, or one for each channel (axis 1).
    init
        First value of the slopes.
    device, dtype
        Those of the slopes.

    Examples
    --------
    >>> import torch
    >>> from leakyrelu.torch import PReLU
    >>> layer = PReLU(2, init=0.5)
    >>> layer
    PReLU(num_parameters=2)
    >>> layer(torch.tensor([[-2.0, 3.0]])).tolist()
    [[-1.0, 3.0]]
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Return f(input), of the shape and dtype of `input`."""
        return prelu(input, self.weight)


class CenteredLeakyReLU(nn.Module):
    """Leaky ReLU with mean 0 and variance 1 under a standard normal input, (f(x) - m) / sqrt(v).

    With a = negative_slope and f(x) = x if x > 0 else a * x, for x ~ N(0, 1):

    * m = (1 - a) / sqrt(2 pi), the mean of f(x)
    * v = (1 + a^2) / 2 - (1 - a)^2 / (2 pi), its variance

    There is no default slope, since the right one depends on the depth of the network:
    `leakyrelu.slope.centered(depth)` computes it. Any shape; float16, bfloat16, float32 and float64, where the
    sixteen-bit types round after each of the three steps. The backward pass keeps one bit an element. All derivatives
    of `leakyrelu.torch.leaky_relu` exist.

    Parameters
    ----------
    negative_slope
        The slope a, a finite number. It may be set again later; m and v follow.

    Raises
    ------
    TypeError
        If the slope is not a number.
    ValueError
        If the slope is infinite or NaN.

    Notes
    -----
    The transformation to a fixed mean and variance is that of Zhang, Botev, Martens, "Deep Learning without Shortcuts",
    ICLR 2022; m and v are the moments of the two halves of a normal distribution.

    Examples
    --------
    >>> import torch
    >>> from leakyrelu.torch import CenteredLeakyReLU
    >>> _ = torch.manual_seed(0)
    >>> y = CenteredLeakyReLU(0.7)(torch.randn(1_000_000))
    >>> abs(y.mean().item()) < 0.01, abs(y.std().item() - 1) < 0.01
    (True, True)
    """

    # TorchScript compiles properties, and does not support the Python of this one's setter.
    __jit_unused_properties__ = ("negative_slope",)

    def __init__(self, negative_slope: float) -> None:
        super().__init__()
        self.negative_slope = negative_slope

    @property
    def negative_slope(self) -> float:
        """The slope for x <= 0."""
        return self._negative_slope

    @negative_slope.setter
    def negative_slope(self, value: float) -> None:
        slope = self._negative_slope = finite_number(
            value,
            "negative_slope",
            hint="; leakyrelu.slope.centered(depth) computes one from the depth of the network",
            why=": the output has no mean and variance to divide out",
        )
        self._mean = float(_formulas.mean(slope))
        self._std = math.sqrt(float(_formulas.variance(slope)))

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002
        """Return (f(input) - m) / sqrt(v), of the shape and dtype of `input`."""
        # The two steps change a result that no other code holds yet, and need nothing kept for their derivatives.
        return leaky_relu(input, self._negative_slope).sub_(self._mean).div_(self._std)

    def extra_repr(self) -> str:
        """Return the slope, as `torch.nn.LeakyReLU` prints it."""
        return f"negative_slope={self._negative_slope}"
