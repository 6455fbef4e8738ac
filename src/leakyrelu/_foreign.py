"""Arguments of other frameworks: their adapter where there is one, an error that names the type where there is none."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

# What PyTorch has in the place of a function or an operand that takes no tensor.
_FOR_GRADIENTS = "leakyrelu.torch.leaky_relu(x, negative_slope) has this gradient by autograd"
_FOR_SLOPES = "leakyrelu.torch.prelu(x, weight) takes a tensor of slopes, and x a tensor too"
_FOR_TENSORS = {
    "leaky_relu": "leakyrelu.torch.leaky_relu(x, negative_slope) takes tensors",
    "leaky_relu_backward": _FOR_GRADIENTS,
    "leaky_relu_inverse": "torch.where(y > 0, y, y / alpha) is the inverse",
    "leaky_relu_with_signs": "leakyrelu.torch.leaky_relu(x, negative_slope) keeps the signs for its gradient",
    "leaky_relu_backward_from_signs": _FOR_GRADIENTS,
}

_PLAIN = frozenset((type(None), bool, int, float, np.ndarray))
_DEEPEST_LIST = 64  # axes of an array at most; a list may hold itself
_FOREIGN_PROTOCOLS = ("__array__", "__array_interface__", "__cuda_array_interface__", "__dlpack__")


def _is_tensor(value: object) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def torch_if_tensor(value: object) -> Any:
    """Return the adapter `leakyrelu.torch` if the value is a tensor, else None."""
    if not _is_tensor(value):
        return None
    import leakyrelu.torch as adapter

    return adapter


def refuse_numpy_arguments(function: str, *, out: Any, where: Any, dtype: Any) -> None:
    """Raise a TypeError for arguments of NumPy's ufuncs in a call on a tensor."""
    given = [f"{name}=" for name, used in (("out", out is not None), ("dtype", dtype is not None)) if used]
    if where is not True:
        given.append("where=")
    if given:
        raise TypeError(
            f"{function}: {', '.join(given)} is for NumPy arrays and x is a PyTorch tensor; use "
            f"leakyrelu.torch.{function}(x, negative_slope, inplace=...), tensor.to(dtype) or torch.where"
        )


def _is_foreign(value: object) -> bool:
    kind = type(value)
    if isinstance(value, np.ndarray | np.generic) or hasattr(kind, "__array_ufunc__"):
        return False
    return any(hasattr(kind, protocol) for protocol in _FOREIGN_PROTOCOLS)


def refuse_foreign(function: str, **operands: Any) -> None:
    """Raise a TypeError for an operand that NumPy would convert silently."""
    for name, value in operands.items():
        for one in value if type(value) is tuple and name == "out" else (value,):
            if type(one) in _PLAIN:
                continue
            if _is_foreign(one):
                _refuse_tensor(function, name, one)
                raise TypeError(
                    f"{function}: {name} is a {_full_name(one)}, which has no adapter here and does not implement "
                    f"__array_ufunc__; convert it yourself, for example with numpy.asarray({name}), or use its own "
                    f"framework's function"
                )
            _refuse_list_of_foreign(function, name, one)


def _refuse_tensor(function: str, name: str, value: object) -> None:
    if _is_tensor(value):
        raise TypeError(
            f"{function}: {name} is a {_full_name(value)}, which has no adapter here; {_remedy(function, name)}"
        )


def _refuse_list_of_foreign(function: str, name: str, value: object) -> None:
    """Look at the first leaf alone: lists are long."""
    leaf = value
    for _ in range(_DEEPEST_LIST):
        if not (isinstance(leaf, list | tuple) and leaf):
            break
        leaf = leaf[0]
    if leaf is value or not _is_foreign(leaf):
        return
    kind = f"{type(value).__name__} of {_full_name(leaf)}"
    cause = "which would come back as NumPy, without device and gradient"
    if _is_tensor(leaf):
        raise TypeError(
            f"{function}: {name} is a {kind}, {cause}; make one tensor of it with torch.stack; "
            f"{_remedy(function, name)}"
        )
    raise TypeError(
        f"{function}: {name} is a {kind}, {cause}; make one array of it by its own framework, or convert each with "
        f"numpy.asarray"
    )


def _remedy(function: str, name: str) -> str:
    return _FOR_SLOPES if name == "alpha" else _FOR_TENSORS[function]


def require_numpy(function: str, **operands: Any) -> None:
    """Raise a TypeError for an operand that is an array of another library."""
    for name, value in operands.items():
        plain = value is None or isinstance(value, np.memmap | np.generic) or type(value) is np.ndarray
        if plain:
            continue
        if not (_is_foreign(value) or hasattr(type(value), "__array_ufunc__")):
            _refuse_list_of_foreign(function, name, value)
            continue
        _refuse_tensor(function, name, value)
        raise TypeError(
            f"{function}: {name} is a {_full_name(value)}, and packed signs are for NumPy arrays; convert it with "
            f"numpy.asarray({name}), or use leaky_relu and leaky_relu_backward, which take any array"
        )


def require_positive(alpha: Any) -> None:
    """Raise a ValueError for an alpha whose function has no inverse."""
    if not isinstance(alpha, np.ndarray | np.generic) and hasattr(type(alpha), "__array_ufunc__"):
        return  # a lazy or labelled array: looking at its values would compute it
    values = np.asarray(alpha)
    if values.dtype.kind not in "biuf" and values.dtype.name != "bfloat16" and not isinstance(alpha, int):
        return  # the ufunc refuses it by name
    wrong = values[~(values > 0)]
    if wrong.size:
        raise ValueError(
            f"leaky_relu_inverse: alpha must be greater than 0, but it holds {wrong.flat[0]}; with a slope of 0 or "
            f"less several inputs share an output, so keep the input, or the signs (leaky_relu_with_signs), instead"
        )


def _full_name(value: object) -> str:
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}"
