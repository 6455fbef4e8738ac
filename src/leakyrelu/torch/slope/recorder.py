"""One forward pass of a model, recorded for the slope: its calls, the moments of the weights they take, and names."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from leakyrelu.torch._compat import DisableTorchFunction
from leakyrelu.torch.activations.layers import CenteredLeakyReLU
from leakyrelu.torch.diagnosis.rectifiers import FUNCTIONS, RECTIFIERS, Rectifier
from leakyrelu.torch.graph.call_sites import source_line
from leakyrelu.torch.graph.layout_rules import rule_name
from leakyrelu.torch.graph.recording import Recording, names_of
from leakyrelu.torch.graph.tracing import call_model, preserved_buffers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from leakyrelu.torch.graph.calls import Call, Value


class Moments(NamedTuple):
    """Mean and mean square of the numbers of a weight."""

    mean: float
    square: float

    @classmethod
    def of(cls, values: Tensor) -> Moments:
        """Take the moments of a tensor."""
        if not values.numel():
            return cls(0.0, 0.0)
        values = values.detach()
        mean = float(values.mean(dtype=torch.float64))
        return cls(mean, float(torch.linalg.vector_norm(values, dtype=torch.float64)) ** 2 / values.numel())


@dataclass
class Pass:
    """What a forward pass called.

    Attributes
    ----------
    calls
        In their order.
    moments
        Of each tensor among the arguments that is the same for all samples, by identity of what stands for it.
    rectifiers
        Name and rectifier of each call of one, and whether `replace_relu` may give it another slope, by identity.
    scales
        For a batch norm in evaluation: moments of what multiplies each channel, and of what is added to it.
    places
        Module and line of the source of each call, by identity.
    standard
        Calls that give the output of an activation the standard scale, by identity.
    is_number
        Whether the result of a call is a real floating-point tensor, by identity.
    """

    calls: list[Call] = field(default_factory=list)
    moments: dict[int, Moments] = field(default_factory=dict)
    rectifiers: dict[int, tuple[str, Rectifier, bool]] = field(default_factory=dict)
    scales: dict[int, tuple[Moments, Moments]] = field(default_factory=dict)
    places: dict[int, str] = field(default_factory=dict)
    standard: set[int] = field(default_factory=set)
    is_number: dict[int, bool] = field(default_factory=dict)


class _Mode(TorchFunctionMode):
    """Mode that records each call of a function which makes tensors."""

    def __init__(self, model: nn.Module, recorded: Pass) -> None:
        super().__init__()
        self.recorded = recorded
        self.recording = Recording(names_of(model))
        self.stack: list[tuple[str, nn.Module]] = [("", model)]
        self._count: Counter[str] = Counter()

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = rule_name(func)
        if not name:
            return func(*args, **kwargs)
        rectifier = self._rectifier(func, args, kwargs)
        with DisableTorchFunction():
            for tensor in _tensors((args, kwargs)):
                self._note_moments(self.recording.what_made(tensor), tensor)
            scales = _batch_norm_scales(args, kwargs) if name == "batch_norm" else None
        module = self.stack[-1][0]
        first = len(self.recording.calls)
        result = func(*args, **kwargs)
        self.recording.add(func, name, module, args, kwargs, result)
        line = source_line()
        for call, tensor in zip(self.recording.calls[first:], _tensors(result), strict=False):
            self.recorded.places[id(call)] = ", ".join(part for part in (module, line) if part)
            self.recorded.is_number[id(call)] = tensor.is_floating_point()
            if name == "div" and isinstance(self.stack[-1][1], CenteredLeakyReLU):
                self.recorded.standard.add(id(call))
            if rectifier is not None:
                self.recorded.rectifiers[id(call)] = rectifier
            if scales is not None:
                self.recorded.scales[id(call)] = scales
        return result

    def _rectifier(self, function: Any, args: Any, kwargs: Any) -> tuple[str, Rectifier, bool] | None:
        reader = FUNCTIONS.get(function)
        found = reader(args, kwargs) if reader is not None else None
        if found is None:
            return None
        module_name, module = self.stack[-1]
        is_module = isinstance(module, RECTIFIERS)
        name = module_name if is_module else f"{found.kind}() in {module_name}" if module_name else f"{found.kind}()"
        self._count[name] += 1
        if self._count[name] > 1:
            name += f", call {self._count[name]}"
        return name, found, found.is_leaky_relu and not isinstance(module, CenteredLeakyReLU)

    def _note_moments(self, described: Call | Value, tensor: Tensor) -> None:
        if described.is_weight and id(described) not in self.recorded.moments and tensor.is_floating_point():
            self.recorded.moments[id(described)] = Moments.of(tensor)


def _tensors(values: Any) -> Iterator[Tensor]:
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, tuple | list):
        for each in values:
            yield from _tensors(each)
    elif isinstance(values, dict):
        yield from _tensors(tuple(values.values()))


def _batch_norm_scales(args: Any, kwargs: Any) -> tuple[Moments, Moments] | None:
    """Return the moments of factor and shift of a batch norm in evaluation; None where it takes the batch's own."""
    names = ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps")
    given = dict(zip(names, args, strict=False)) | kwargs
    mean, var = given.get("running_mean"), given.get("running_var")
    if given.get("training") or mean is None or var is None:
        return None
    weight, bias = given.get("weight"), given.get("bias")
    factor = (var.double() + given.get("eps", 1e-5)).rsqrt() * (1.0 if weight is None else weight.double())
    shift = -mean.double() * factor + (0.0 if bias is None else bias.double())
    return Moments.of(factor), Moments.of(shift)


def record(model: nn.Module, inputs: tuple[Any, ...], training: bool | None) -> Pass:
    """Run a model once and record its calls; buffers, modes and generators of random numbers stay as they were."""
    recorded = Pass()
    mode = _Mode(model, recorded)
    modes = [(module, module.training) for module in model.modules()]
    names = {module: name for name, module in model.named_modules()}

    def enter(module: nn.Module, args: Any) -> None:
        mode.stack.append((names[module], module))

    def leave(module: nn.Module, args: Any, output: Any) -> None:
        if len(mode.stack) > 1:
            mode.stack.pop()

    handles = [module.register_forward_pre_hook(enter) for module in names if module is not model]
    handles += [module.register_forward_hook(leave, always_call=True) for module in names if module is not model]
    try:
        if training is not None:
            model.train(training)
        with preserved_buffers(model), torch.no_grad(), mode:
            call_model(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
        for module, was in modes:
            module.training = was
    recorded.calls = mode.recording.calls
    return recorded
