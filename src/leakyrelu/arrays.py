"""The public array functions.

The work is done by true NumPy ufuncs (``leakyrelu._core``), so every library that implements ``__array_ufunc__`` (Dask,
xarray, pandas, sparse, masked arrays) is served without a line here. Three things are decided in this file:

* the usual calls (a Python float, a plain dense array) take the fast path of the native core, which reads the default
  of alpha here; what the functions mean stands here too, and the tests hold both paths to it;
* a tensor of a framework without that protocol goes to the adapter of that framework, by `leakyrelu._foreign`, which
  the first call off the fast path loads. Frameworks are looked up in ``sys.modules``, never imported: a tensor exists
  only where its framework was imported;
* a type without an adapter is refused by name, also in a list. Converting it silently to NumPy would return another
  type than came in, and lose its device and its gradient.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import numpy as np

from leakyrelu import _core

if TYPE_CHECKING:
    from collections.abc import Callable


__all__ = [
    "leaky_relu",
    "leaky_relu_backward",
    "leaky_relu_backward_from_signs",
    "leaky_relu_inverse",
    "leaky_relu_with_signs",
]


_P = ParamSpec("_P")
_R = TypeVar("_R")


def _with_fast_path(function: Callable[_P, _R]) -> Callable[_P, _R]:
    return functools.update_wrapper(_core.fast_path(function, function.__name__), function)


@_with_fast_path
def leaky_relu(x: Any, alpha: Any = 0.01, *, out: Any = None, where: Any = True, dtype: Any = None) -> Any:
    """Leaky ReLU: ``f(x) = x`` where ``x > 0``, ``alpha * x`` elsewhere.

    Equal to ``max(alpha * x, x)`` for ``0 <= alpha <= 1``; the piecewise rule holds for any real alpha.

    Parameters
    ----------
    x
        Real numbers of any shape and memory layout: an array, nested lists, a Python number, or any object that
        implements ``__array_ufunc__`` (Dask, xarray, pandas, ...). A PyTorch tensor goes to `leakyrelu.torch` and comes
        back a tensor with its gradient.
    alpha
        The slope for ``x <= 0``: a number, or any array that broadcasts against `x` (a slope per channel is a PReLU).
        It never decides the dtype of the result.
    out, where, dtype
        As for every NumPy ufunc. Where `where` is false, `out` keeps its values (without `out` they are undefined).

    Returns
    -------
    The values, of the kind and shape of `x` (broadcast with `alpha`). float16, bfloat16, float32, float64 and
    longdouble keep their dtype, the 16-bit ones being computed in float32 and rounded once; bool and integers give
    float64, as `numpy.true_divide` does; a Python float gives a Python float.

    Raises
    ------
    TypeError
        For complex, text, object, time and structured data or alpha, and for array types without an adapter.
    ValueError
        If the shapes do not broadcast.

    Notes
    -----
    NaN stays NaN; ``alpha = 0`` and ``x = -inf`` gives NaN by the IEEE product, as in PyTorch; the sign of ``-0.0`` is
    kept. float32 and float64 are bit-identical with ``torch.nn.functional.leaky_relu``. Leaky ReLU: Maas, Hannun, Ng,
    "Rectifier nonlinearities improve neural network acoustic models", ICML 2013.

    Examples
    --------
    >>> import numpy as np
    >>> from leakyrelu import leaky_relu
    >>> leaky_relu(np.array([-2.0, 0.0, 3.0]))
    array([-0.02,  0.  ,  3.  ])
    >>> leaky_relu(-2.0, 0.5)
    -1.0
    """
    import leakyrelu._foreign as foreign

    if type(x) is not np.ndarray:
        if (tensors := foreign.torch_if_tensor(x)) is not None:
            foreign.refuse_numpy_arguments("leaky_relu", out=out, where=where, dtype=dtype)
            return tensors.leaky_relu(x, alpha)
        foreign.refuse_foreign("leaky_relu", x=x)
    foreign.refuse_foreign("leaky_relu", alpha=alpha, out=out)
    result = _core.leaky_relu(x, alpha, out=out, where=where, dtype=dtype)
    return float(result) if type(x) is float and type(result) is np.float64 else result


@_with_fast_path
def leaky_relu_backward(grad: Any, x: Any, alpha: Any = 0.01, *, out: Any = None) -> Any:
    """Gradient of Leaky ReLU: ``grad`` where ``x > 0``, ``alpha * grad`` elsewhere.

    The derivative at exactly 0 and for NaN is `alpha`, as in PyTorch, TensorFlow and oneDNN (JAX uses 1).

    Parameters
    ----------
    grad
        The gradient with respect to the output.
    x
        The input of the forward pass. The output serves as well where ``alpha > 0``: it has the same signs.
    alpha, out
        As in `leaky_relu`, with the slope of the forward pass; `out` may be `grad` itself.

    Returns
    -------
    The gradient with respect to `x`, in the common dtype of `grad` and `x`.

    Raises
    ------
    TypeError
        As `leaky_relu`, and for PyTorch tensors, which have autograd: `leakyrelu.torch.leaky_relu`.

    Examples
    --------
    >>> import numpy as np
    >>> from leakyrelu import leaky_relu_backward
    >>> leaky_relu_backward(np.ones(3), np.array([-2.0, 0.0, 3.0]), 0.1)
    array([0.1, 0.1, 1. ])
    """
    import leakyrelu._foreign as foreign

    foreign.refuse_foreign("leaky_relu_backward", grad=grad, x=x, alpha=alpha, out=out)
    return _core.leaky_relu_backward(grad, x, alpha, out=out)


@_with_fast_path
def leaky_relu_inverse(y: Any, alpha: Any = 0.01, *, out: Any = None) -> Any:
    """Inverse of Leaky ReLU for ``alpha > 0``: ``y`` where ``y > 0``, ``y / alpha`` elsewhere.

    Recovers the input from the output up to rounding; what underflowed to zero in the forward pass stays zero.

    Parameters
    ----------
    y
        The output of `leaky_relu`.
    alpha, out
        As in `leaky_relu`, with the slope of the forward pass, greater than 0; `out` may be `y` itself.

    Returns
    -------
    The input of the forward pass, of the kind and dtype of `y`.

    Raises
    ------
    ValueError
        If any alpha is 0, negative or NaN: then the function has no inverse. Numbers, sequences and NumPy arrays are
        looked at; a lazy or labelled alpha (Dask, xarray, pandas) is not.
    TypeError
        As `leaky_relu`.

    Examples
    --------
    >>> import numpy as np
    >>> from leakyrelu import leaky_relu_inverse
    >>> leaky_relu_inverse(np.array([-0.5, 0.0, 3.0]), 0.25)
    array([-2.,  0.,  3.])
    """
    import leakyrelu._foreign as foreign

    foreign.refuse_foreign("leaky_relu_inverse", y=y, alpha=alpha, out=out)
    foreign.require_positive(alpha)
    return _core.leaky_relu_inverse(y, alpha, out=out)


@_with_fast_path
def leaky_relu_with_signs(x: Any, alpha: Any = 0.01, *, out: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Leaky ReLU and the packed signs of its input in one pass: what the backward pass needs, one bit an element.

    Parameters
    ----------
    x
        NumPy array (or nested lists, or a number) of real numbers. Dtypes as in `leaky_relu`.
    alpha, out
        As in `leaky_relu`; `alpha` broadcasts to the shape of `x`, and `out` may be `x` itself.

    Returns
    -------
    y
        The values of `leaky_relu`.
    signs
        uint8, ``ceil(x.size / 8)`` bytes: bit ``i % 8`` (counted from the low bit) of byte ``i // 8`` is 1 where
        element ``i`` of `x`, in C order, is greater than 0; trailing bits are 0.
        ``numpy.unpackbits(signs, count=x.size, bitorder="little")`` unpacks them.

    Raises
    ------
    TypeError, ValueError
        As `leaky_relu`; also for array types other than NumPy's, whose chunks or devices packed bits do not fit.

    Examples
    --------
    >>> import numpy as np
    >>> from leakyrelu import leaky_relu_with_signs
    >>> leaky_relu_with_signs(np.array([-2.0, 0.0, 3.0]))
    (array([-0.02,  0.  ,  3.  ]), array([4], dtype=uint8))
    """
    import leakyrelu._foreign as foreign

    foreign.require_numpy("leaky_relu_with_signs", x=x, alpha=alpha, out=out)
    return _core.leaky_relu_with_signs(x, alpha, out)


@_with_fast_path
def leaky_relu_backward_from_signs(
    grad: Any, signs: np.ndarray, alpha: Any = 0.01, *, out: np.ndarray | None = None
) -> np.ndarray:
    """Gradient of Leaky ReLU from packed signs: ``grad`` where the bit is 1, ``alpha * grad`` where it is 0.

    Parameters
    ----------
    grad
        The gradient with respect to the output: NumPy array of the shape that `x` had.
    signs
        What `leaky_relu_with_signs` returned for that `x`.
    alpha, out
        As in `leaky_relu_backward`; `alpha` broadcasts to the shape of `grad`.

    Returns
    -------
    The gradient with respect to `x`, of the shape and dtype of `grad`.

    Raises
    ------
    TypeError
        If `signs` is not uint8, or `grad` or `alpha` is not real.
    ValueError
        If `signs` has not one axis of ``ceil(grad.size / 8)`` bytes, or `alpha` does not broadcast.

    Examples
    --------
    >>> import numpy as np
    >>> from leakyrelu import leaky_relu_backward_from_signs, leaky_relu_with_signs
    >>> y, signs = leaky_relu_with_signs(np.array([-2.0, 0.0, 3.0]), 0.1)
    >>> leaky_relu_backward_from_signs(np.ones(3), signs, 0.1)
    array([0.1, 0.1, 1. ])
    """
    import leakyrelu._foreign as foreign

    foreign.require_numpy("leaky_relu_backward_from_signs", grad=grad, signs=signs, alpha=alpha, out=out)
    return _core.leaky_relu_backward_from_signs(grad, signs, alpha, out)
