"""The candidates: how a user of each library writes the same operation.

Each function returns ``{name: call}`` for one operation, dtype, size and way of giving output (``mode``): ``fresh``
output allocated by the call, the caller's output (``out``), or ``in place``. ``new`` is ``fresh`` in a process whose
malloc asks the system for every larger array (`NEW_MEMORY`); in others glibc hands arrays of up to 32 MiB back and
forth, and a call in a loop gets the warm pages of the result that was just dropped. Which of the two a program sees
depends on what it keeps. A peer without that way, or not installed, is absent.
"""

from __future__ import annotations

import concurrent.futures
import functools
import importlib.util
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import torch

import leakyrelu

if TYPE_CHECKING:
    from collections.abc import Callable

    Calls = dict[str, Callable[[], object]]

ALPHA = 0.01
OURS = "leakyrelu"
MODES = ("out", "fresh", "new", "in place")
FRESH = ("fresh", "new")
# glibc: arrays from 256 KiB on come from the system, and go back to it when they are dropped.
NEW_MEMORY = {"MALLOC_MMAP_THRESHOLD_": "262144"}
NEW_MEMORY_FROM = 18
DTYPES = {"float32": np.dtype(np.float32), "bfloat16": np.dtype(ml_dtypes.bfloat16), "float16": np.dtype(np.float16)}


def has(package: str) -> bool:
    return importlib.util.find_spec(package) is not None


def mixed_signs(n: int, dtype: str, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(n, dtype=np.float32).astype(DTYPES[dtype])


@functools.lru_cache(maxsize=1)
def operands(n: int, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """Input and output, the same memory for every candidate and for the limit.

    Where an array lies, and on which pages, is worth 30 % while it fits the cache.
    """
    x = mixed_signs(n, dtype)
    return x, np.empty_like(x)


def as_tensor(x: np.ndarray) -> torch.Tensor:
    """Give the same memory to PyTorch."""
    if x.dtype == DTYPES["bfloat16"]:
        return torch.from_numpy(x.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(x)


@functools.cache
def _numba(parallel: bool) -> Any:
    import numba

    if parallel:

        def run(x: Any, alpha: Any, out: Any) -> None:
            for i in numba.prange(x.size):
                out[i] = x[i] if x[i] > 0 else alpha * x[i]

        return numba.njit(parallel=True)(run)

    def one(x: Any, alpha: Any) -> Any:
        return x if x > 0 else alpha * x

    return numba.vectorize(["float32(float32, float32)"])(one)


@functools.cache
def _jax(backward: bool) -> Any:
    import jax

    def forward(x: Any) -> Any:
        return jax.nn.leaky_relu(x, ALPHA)

    if not backward:
        return jax.jit(forward)
    return jax.jit(lambda x, grad: jax.vjp(forward, x)[1](grad)[0])


def _onnx(x: np.ndarray, out: np.ndarray) -> Callable[[], object]:
    import onnx
    import onnxruntime

    tensor = functools.partial(onnx.helper.make_tensor_value_info, elem_type=onnx.TensorProto.FLOAT, shape=[None])
    node = onnx.helper.make_node("LeakyRelu", ["x"], ["y"], alpha=ALPHA)
    graph = onnx.helper.make_graph([node], "leaky_relu", [tensor("x")], [tensor("y")])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    binding = session.io_binding()
    binding.bind_input("x", "cpu", 0, np.float32, x.shape, x.ctypes.data)
    binding.bind_output("y", "cpu", 0, np.float32, out.shape, out.ctypes.data)
    return lambda: session.run_with_iobinding(binding)


@functools.cache
def _compiled() -> Any:
    return torch.compile(lambda x: torch.nn.functional.leaky_relu(x, ALPHA), dynamic=True)


def forward(n: int, dtype: str, mode: str) -> Calls:
    x, y = operands(n, dtype)
    scratch = np.empty_like(x)
    t, t_out = as_tensor(x), as_tensor(y)
    alpha = DTYPES[dtype].type(ALPHA)
    calls: Calls = {}
    wide = dtype == "float32"
    if mode == "out":
        calls[OURS] = lambda: leakyrelu.leaky_relu(x, ALPHA, out=y)
        calls["NumPy maximum"] = lambda: np.maximum(x, np.multiply(x, alpha, out=scratch), out=y)
        if has("numexpr") and wide:
            import numexpr

            calls["numexpr"] = lambda: numexpr.evaluate("where(x > 0, x, alpha * x)", {"x": x, "alpha": alpha}, out=y)
        if has("numba") and wide:
            vectorized, parallel = _numba(parallel=False), _numba(parallel=True)
            calls["Numba vectorize"] = lambda: vectorized(x, alpha, y)
            calls["Numba parallel"] = lambda: parallel(x, alpha, y)
        calls["PyTorch out="] = lambda: torch._C._nn.leaky_relu(t, ALPHA, out=t_out)
        if has("onnxruntime") and has("onnx") and wide:
            calls["ONNX Runtime bound"] = _onnx(x, y)
    elif mode in FRESH:
        calls[OURS] = lambda: leakyrelu.leaky_relu(x, ALPHA)
        calls["NumPy maximum"] = lambda: np.maximum(x, alpha * x)
        calls["NumPy where"] = lambda: np.where(x > 0, x, alpha * x)
        if has("numexpr") and wide:
            import numexpr

            calls["numexpr"] = lambda: numexpr.evaluate("where(x > 0, x, alpha * x)", {"x": x, "alpha": alpha})
        if has("numba") and wide:
            vectorized = _numba(parallel=False)
            calls["Numba vectorize"] = lambda: vectorized(x, alpha)
        calls["PyTorch"] = lambda: torch.nn.functional.leaky_relu(t, ALPHA)
        compiled = _compiled()
        calls["PyTorch compiled"] = lambda: compiled(t)
        if has("jax"):
            import jax.numpy as jnp

            jitted, on_jax = _jax(backward=False), jnp.asarray(x)
            calls["JAX jitted"] = lambda: jitted(on_jax).block_until_ready()
    else:
        # A slope of 1 keeps the values from drifting into subnormals, and takes every step that another slope takes.
        calls[OURS] = lambda: leakyrelu.leaky_relu(x, 1.0, out=x)
        calls["PyTorch in place"] = lambda: torch._C._nn.leaky_relu_(t, 1.0)
    return calls


def backward(n: int, dtype: str, mode: str) -> Calls:
    x, grad = mixed_signs(n, dtype), mixed_signs(n, dtype, seed=1)
    out = np.empty_like(x)
    t, t_grad, t_out = as_tensor(x), as_tensor(grad), as_tensor(out)
    _, signs = leakyrelu.leaky_relu_with_signs(x, ALPHA)
    alpha = DTYPES[dtype].type(ALPHA)
    calls: Calls = {}
    if mode == "out":
        calls[f"{OURS} from signs"] = lambda: leakyrelu.leaky_relu_backward_from_signs(grad, signs, ALPHA, out=out)
        calls[OURS] = lambda: leakyrelu.leaky_relu_backward(grad, x, ALPHA, out=out)
        run = torch.ops.aten.leaky_relu_backward.grad_input
        calls["PyTorch out="] = lambda: run(t_grad, t, ALPHA, False, grad_input=t_out)
    elif mode in FRESH:
        calls[f"{OURS} from signs"] = lambda: leakyrelu.leaky_relu_backward_from_signs(grad, signs, ALPHA)
        calls[OURS] = lambda: leakyrelu.leaky_relu_backward(grad, x, ALPHA)
        calls["NumPy where"] = lambda: np.where(x > 0, grad, alpha * grad)
        fresh = torch.ops.aten.leaky_relu_backward.default
        calls["PyTorch"] = lambda: fresh(t_grad, t, ALPHA, False)
        if has("jax"):
            import jax.numpy as jnp

            jitted, x_jax, grad_jax = _jax(backward=True), jnp.asarray(x), jnp.asarray(grad)
            calls["JAX jitted"] = lambda: jitted(x_jax, grad_jax).block_until_ready()
    else:
        calls[f"{OURS} from signs"] = lambda: leakyrelu.leaky_relu_backward_from_signs(grad, signs, 1.0, out=grad)
    return calls


def both(n: int, dtype: str, mode: str) -> Calls:
    """Forward and backward, with what each keeps in between."""
    x, grad = mixed_signs(n, dtype), mixed_signs(n, dtype, seed=1)
    t, t_grad = as_tensor(x), as_tensor(grad)
    calls: Calls = {}
    if mode in FRESH:

        def ours() -> object:
            y, signs = leakyrelu.leaky_relu_with_signs(x, ALPHA)
            return y, leakyrelu.leaky_relu_backward_from_signs(grad, signs, ALPHA)

        def theirs() -> object:
            y = torch.nn.functional.leaky_relu(t, ALPHA)
            return y, torch.ops.aten.leaky_relu_backward.default(t_grad, t, ALPHA, False)

        calls[OURS], calls["PyTorch"] = ours, theirs
    elif mode == "out":
        y, out = np.empty_like(x), np.empty_like(x)
        t_y, t_out = as_tensor(y), as_tensor(out)
        run = torch.ops.aten.leaky_relu_backward.grad_input

        def ours() -> object:
            _, signs = leakyrelu.leaky_relu_with_signs(x, ALPHA, out=y)
            return leakyrelu.leaky_relu_backward_from_signs(grad, signs, ALPHA, out=out)

        def theirs() -> object:
            torch._C._nn.leaky_relu(t, ALPHA, out=t_y)
            return run(t_grad, t, ALPHA, False, grad_input=t_out)

        calls[OURS], calls["PyTorch out="] = ours, theirs
    return calls


# The limit: what merely moving the same bytes takes, with the same threads -------------------------------------------

_POOLS: dict[int, concurrent.futures.ThreadPoolExecutor] = {}


def _in_parts(run: Callable[..., object], threads: int, *arrays: np.ndarray) -> Callable[[], object]:
    pool = _POOLS.setdefault(threads, concurrent.futures.ThreadPoolExecutor(threads))
    parts = list(zip(*(np.array_split(array, threads) for array in arrays), strict=True))
    return lambda: list(pool.map(lambda part: run(*part), parts))


def limit(n: int, dtype: str, mode: str) -> Calls:
    """Several ways to copy (or to pass in place over) the same bytes. The best of them is the limit."""
    x, y = operands(n, dtype)
    raw = x.view(np.uint16 if x.dtype.itemsize == 2 else np.uint32)
    threads = leakyrelu.get_num_threads()
    if mode == "in place":
        tensor = torch.from_numpy(raw.view(np.float32)) if raw.nbytes % 4 == 0 else as_tensor(x)
        calls: Calls = {
            "limit: NumPy invert in place": lambda: np.invert(raw, out=raw),
            "limit: PyTorch neg_": tensor.neg_,
        }
        if threads > 1 and n >= 2**16:
            calls["limit: NumPy invert in place, threads"] = _in_parts(
                lambda part: np.invert(part, out=part), threads, raw
            )
        return calls
    target = y.view(raw.dtype)
    t, t_out = torch.from_numpy(raw.view(np.uint8)), torch.from_numpy(target.view(np.uint8))
    if mode in FRESH:
        return {"limit: NumPy copy": raw.copy, "limit: PyTorch clone": t.clone}
    calls = {"limit: NumPy copyto": lambda: np.copyto(target, raw), "limit: PyTorch copy_": lambda: t_out.copy_(t)}
    if threads > 1 and n >= 2**16:
        calls["limit: NumPy copyto, threads"] = _in_parts(np.copyto, threads, target, raw)
    return calls


OPERATIONS = {"forward": forward, "backward": backward, "both": both}
