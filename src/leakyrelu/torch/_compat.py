"""The private names of PyTorch that this package uses, and the frames of Python: all of them, in one file.

A comment at each says what it is for, and what public way was not good enough. A contract test checks what each is
taken to do (tests/torch/test_compat.py); `make lint` fails on a private name in any other file.
"""

from __future__ import annotations

import pathlib
import sys
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.autograd import forward_ad

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from torch import Tensor

_TESTED = "2.9.1, 2.13.0, 2.14.1"  # which tools/versions reads

try:
    # Which modes see calls of functions, and how many see operators: `torch.overrides` opens modes and lists none.
    function_mode: Callable[[int], Any] = torch._C._get_function_stack_at
    count_function_modes: Callable[[], int] = torch._C._len_torch_function_stack
    count_dispatch_modes: Callable[[], int] = torch._C._len_torch_dispatch_stack
    # A graph is recorded by `make_fx` or an exporter: `torch.compiler.is_exporting` knows the exporter alone.
    _dispatch_mode = torch._C._get_dispatch_mode
    _PROXY = torch._C._TorchDispatchModeKey.PROXY
    # A transform of `torch.func`, a batched gradient (`is_grads_batched`): there is no public test for either.
    are_transforms_active: Callable[[], bool] = torch._C._are_functorch_transforms_active
    is_batched_gradient: Callable[[Tensor], bool] = torch._C._functorch.is_legacy_batchedtensor
    # `torch.jit.is_tracing` without Python around it: each call of `leaky_relu` asks.
    is_tracing: Callable[[], bool] = torch._C._is_tracing
    # Hides calls from all modes; the public `torch.overrides` has this for code within one mode only.
    DisableTorchFunction: Any = torch._C.DisableTorchFunction
    # Hides a call from tensor subclasses alone, and makes one without memory: what defines a subclass in public copies.
    DisableTorchFunctionSubclass: Any = torch._C.DisableTorchFunctionSubclass
    wrapper_tensor: Callable[..., Any] = torch.Tensor._make_wrapper_subclass
    # The function without Python around it, which takes as long as the kernel of a small tensor.
    fast_leaky_relu: Callable[..., Tensor] = getattr(torch._C._nn, "leaky_relu", nn.functional.leaky_relu)
    # The number of the backward pass under way; hooks on tensors would only know that of their own graph.
    _backward_pass = torch._C._current_graph_task_id
    # Off within `torch.autograd.Function.forward`; `torch.is_grad_enabled` is off in other places, too.
    _is_forward_grad_enabled = torch._C._is_fwd_grad_enabled
    # Runs a changed graph of TorchScript, for which the public classes have no constructor.
    _function_of_graph = torch._C._create_function_from_graph

    # Tensors without values, and what `with torch.device(...)` opens: PyTorch makes both, and names neither in public.
    from torch._subclasses.fake_tensor import FakeTensor as FakeTensor

    # Whether torch.fx traces: `torch.compiler.is_compiling` is false then, and a call may have no proxy among its
    # arguments.
    from torch.fx._symbolic_trace import is_fx_symbolic_tracing as is_fx_symbolic_tracing
    from torch.utils._device import DeviceContext as DeviceContext

    # Reads the records of a file as `torch.load` and `torch.jit.load` do; the public ones load what the records hold.
    ArchiveReader: Any = torch._C.PyTorchFileReader
    # Sees the operators that a program of TorchScript calls; no public mode does.
    from torch.utils._python_dispatch import TorchDispatchMode as TorchDispatchMode

    # Knows the containers that libraries register, such as outputs of transformers; `torch.fx.node.map_aggregate` not.
    from torch.utils._pytree import tree_leaves as tree_leaves
except (ImportError, AttributeError) as error:
    raise ImportError(
        f"leakyrelu.torch works with PyTorch 2.9 and newer (tested: {_TESTED}), and this is {torch.__version__} "
        f"({error}); install another version, such as torch==2.13.0"
    ) from error

# Public, without a type. TorchScript knows it by its identity.
is_scripting: Callable[[], bool] = torch.jit.is_scripting  # type: ignore[attr-defined]

# Modes.


def writes_graph() -> bool:
    """Whether `make_fx` or an exporter records the operators that run."""
    return _dispatch_mode(_PROXY) is not None


# Autograd.


def in_forward_mode() -> bool:
    """Whether a level of forward-mode derivatives is open; `unpack_dual` would have to be asked of every tensor."""
    return forward_ad._current_level >= 0


def in_backward_pass() -> bool:
    """Whether autograd runs a backward pass on this thread."""
    return _backward_pass() != -1


def autograd_state() -> tuple[bool, int]:
    """Return what changes between a forward method and the parts of a `torch.autograd.Function` that it calls.

    PyTorch runs them without forward-mode derivatives, or in a backward pass of another number. In inference mode,
    which turns these derivatives off as well, there is nothing to see.
    """
    return _is_forward_grad_enabled() or torch.is_inference_mode_enabled(), _backward_pass()


def apply_of(function: type[torch.autograd.Function]) -> Callable[..., Any]:
    """Return `function.apply` without its Python part, which is for `torch.func` and takes longer than the rest."""
    return super(torch.autograd.Function, function).apply  # type: ignore[misc,no-any-return]


# Tensors.


def is_view(x: Tensor) -> bool:
    """Whether autograd takes a tensor for a view; two public tensors of one storage need not be one."""
    return x._is_view()


def version_of(x: Tensor) -> int:
    """Return how often a tensor was changed in place; autograd checks it, and says nothing until the backward pass."""
    return x._version


def sparse_parts(x: Tensor) -> list[Tensor]:
    """Return the tensors that a sparse COO tensor holds; the public ones exist once it is coalesced, in a copy."""
    return [x._indices(), x._values()]


# Modules.

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
"""Where a module keeps the hooks that see its input or output: PyTorch registers hooks, and does not list them."""


def count_hooks(module: nn.Module) -> int:
    """Count the hooks of a module that see its input or output."""
    return sum(len(getattr(module, hooks, None) or ()) for hooks in HOOKS)


def has_forward_hooks(module: nn.Module) -> bool:
    """Whether hooks run when a module is called forward."""
    return bool(module._forward_hooks or module._forward_pre_hooks)


def is_compiled(module: nn.Module) -> bool:
    """Whether `torch.compile` made this module, or `module.compile()` was called, for which there is no question."""
    return type(module).__name__ == "OptimizedModule" or getattr(module, "_compiled_call_impl", None) is not None


def isolate_state(module: nn.Module, copy: Callable[[Any], Any]) -> None:
    """Exchange the attributes and buffers of a module for copies and take its hooks, past its own `__setattr__`.

    `copy.copy` and `torch.func.functional_call` would leave the attributes that are no tensors.
    """
    for name, value in list(vars(module).items()):
        vars(module)[name] = OrderedDict() if name in HOOKS else copy(value)
    vars(module)["_buffers"] = {name: copy(value) for name, value in module._buffers.items()}


def share_parameters(module: nn.Module, owner: nn.Module) -> None:
    """Give a module the parameters of another: the very dictionary, so that what replaces one replaces it in both.

    `register_parameter` would share the tensors until one of them is replaced.
    """
    object.__setattr__(module, "_parameters", owner._parameters)


class SharedState(nn.Module):
    """A module whose parameters, buffers and `state_dict` are those of another module that is no child of it.

    As a child, which is the public way, its keys would have a prefix, and checkpoints would not load.
    """

    def share_state(self, owner: nn.Module) -> None:
        """Take the very dictionaries, so that whatever replaces a parameter or buffer replaces it in both."""
        share_parameters(self, owner)
        object.__setattr__(self, "_buffers", owner._buffers)
        object.__setattr__(self, "_non_persistent_buffers_set", owner._non_persistent_buffers_set)
        self._version = owner._version

    def state_owner(self) -> nn.Module:
        """Return the module whose state this is."""
        raise NotImplementedError

    def parameters_apart(self) -> list[str]:
        """Return the parameters that pruning or a parametrization of this module computes: the owner lacks them."""
        owner = self.state_owner()
        names = ("weight", "bias")
        return [name for name in names if name not in owner._parameters and not hasattr(owner, name)]

    def call_owner(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a method of the owner, which sees the parameters that are computed here."""
        lent = self.parameters_apart()
        owner = self.state_owner()
        for name in lent:
            object.__setattr__(owner, name, getattr(self, name))
        try:
            return function(*args)
        finally:
            for name in lent:
                object.__delattr__(owner, name)

    def _load_from_state_dict(self, state: Any, prefix: str, *args: Any) -> None:
        # Old checkpoints, and messages about missing keys, are the business of the module that owns the state.
        self.state_owner()._load_from_state_dict(state, prefix, *args)
        unexpected: list[str] = args[3]
        children = tuple(f"{prefix}{name}." for name in self._modules)  # of a parametrization, which the owner lacks
        unexpected[:] = [name for name in unexpected if not name.startswith(children)]


# TorchScript.


def script_function(program: torch.jit.ScriptModule, graph: Any) -> Callable[..., Any]:
    """Return a function that runs a graph on a program, which holds the parameters that the graph reads."""
    function, module = _function_of_graph("forward", graph), program._c
    return lambda *inputs: function(module, *inputs)


# Frames of Python, and the threads of PyTorch.

# Modules of PyTorch whose frames may lie between a call in a model and the function that it reaches.
CALLING_MODULES = frozenset({"torch.nn.functional", "torch.overrides", "torch._tensor", "torch._ops"})


def call_frame(depth: int = 0) -> FrameType:
    """Return the frame of the caller, or one that many further out; `inspect.stack` would read source files."""
    return sys._getframe(depth + 1)


def openmp_library() -> str | None:
    """Return the path of GCC's OpenMP library that PyTorch runs on; it does not say which one it has loaded.

    None where there is none, or where several are loaded (each package may bring one) and none is PyTorch's own.
    """
    try:
        lines = pathlib.Path("/proc/self/maps").read_text().splitlines()
    except OSError:
        return None
    paths = sorted({line.split(maxsplit=5)[-1] for line in lines if "/libgomp" in line})
    own = [path for path in paths if path.startswith(str(pathlib.Path(torch.__file__).parent))]
    candidates = own or paths
    return candidates[0] if len(candidates) == 1 else None
