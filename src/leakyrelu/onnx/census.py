"""Adapter for ONNX files: the same census of units, for a network of any framework, run by ONNX Runtime.

The inputs of all rectifiers become the outputs of a copy of the graph, in memory; the file is only read. What comes out
is counted batch by batch, so memory is that of one batch's activations, however much data passes.
"""

from __future__ import annotations

import importlib
import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from leakyrelu._checks import integer
from leakyrelu._extras import require
from leakyrelu._text import few, first_line
from leakyrelu.diagnosis.array_counts import count_array
from leakyrelu.diagnosis.input_check import InputCheck, check_array, merge_checks
from leakyrelu.diagnosis.layer import Layer
from leakyrelu.diagnosis.report import Report
from leakyrelu.diagnosis.unit_axis import checked_axis
from leakyrelu.onnx.graph import _FUSED, _Graph, _needed, _Rectifier

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from leakyrelu.diagnosis.counts import Counts

    Inputs = dict[str, NDArray[Any]]


__all__ = ["diagnose"]


def diagnose(
    path: str | os.PathLike[str],
    data: Any,
    *,
    batch_size: int = 64,
    unit_axis: Mapping[str, int] | None = None,
    providers: Sequence[str] = ("CPUExecutionProvider",),
    progress: Callable[[int], object] | None = None,
) -> Report:
    """Run data through an ONNX model and report what its rectifiers did.

    Counted are the nodes ``Relu``, ``LeakyRelu``, ``PRelu`` and ``Clip`` with a minimum of 0, of any opset that ONNX
    Runtime runs, in models with or without external data. Not among them: the gates of hard-swish and hard-sigmoid
    (``Clip(x + 3, 0, 6)``), which are no rectifiers at 0, and nodes within branches of ``If``, ``Loop`` and ``Scan``,
    whose tensors cannot be taken out; a warning names those.

    Parameters
    ----------
    path
        The file. It is read, never written.
    data
        An array, samples first, for a model of one input; a mapping from input names to arrays, such as what
        ``numpy.load`` gives for an ``.npz`` file, for a model of several; or an iterable of such batches. An input
        without a batch axis, and one whose declared shape is fixed and is the array's, is given whole every time.
    batch_size
        Samples at a time, for a model that takes any number. A model that takes exactly B gets B; where samples are
        left over, the last batch is filled up with samples that are not counted.
    unit_axis
        Which axis holds the units, for the nodes named here. Without it, the producer of the input decides:
        convolutions, batch, instance and group norm and pooling axis 1; Gemm, MatMul, layer norm and
        recurrent layers the last.
    providers
        Where ONNX Runtime is to run it.
    progress
        Called with the number of samples done after every batch.

    Returns
    -------
    leakyrelu.diagnosis.Report
        Layers in the order of the graph, named as the nodes are (by their output where a node has no name).

    Raises
    ------
    FileNotFoundError, ValueError
        There is no such file; it is no ONNX model, has no rectifier, cannot be run on this data; `data` is empty or
        lacks an input; leftover samples cannot be told apart from those that fill up the last batch.
    TypeError
        `data` is none of the above.
    ImportError
        The extra ``onnx`` is not installed.

    Examples
    --------
    >>> import numpy as np, onnx, tempfile
    >>> from onnx import TensorProto, helper
    >>> from leakyrelu.onnx import diagnose
    >>> weight = helper.make_tensor("w", TensorProto.FLOAT, [2, 3], [1, 0, -1, 0, 1, -1])
    >>> graph = helper.make_graph(
    ...     [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Relu", ["h"], ["y"], name="act")],
    ...     "small",
    ...     [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
    ...     [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])],
    ...     [weight],
    ... )
    >>> model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     onnx.save(model, f"{folder}/small.onnx")
    ...     report = diagnose(f"{folder}/small.onnx", np.random.default_rng(0).random((500, 2), np.float32))
    >>> report["act"].silent_units, report["act"].samples
    (array([2]), 500)
    """
    integer(batch_size, "batch_size", least=1)
    network = _Network(Path(path), dict(unit_axis or {}), list(providers))
    totals: list[Counts | None] = [None] * len(network.rectifiers)
    done = 0
    for batch in _batches(data):
        for inputs, kept, size in network.pieces(batch, batch_size):
            for i, (node, counts) in enumerate(zip(network.rectifiers, network.count(inputs, kept), strict=True)):
                before = totals[i]
                if before is not None and before.units != counts.units:
                    raise ValueError(
                        f"{node.name} has {before.units} units in one batch and {counts.units} in another: axis "
                        f"{node.axis} is not that of its units; say which is, with unit_axis={{{node.name!r}: ...}}"
                    )
                totals[i] = counts if before is None else before + counts
            done += size
            if progress is not None:
                progress(done)
    if not done:
        raise ValueError("data holds no sample: give an array, samples first, or an iterable of batches")
    return Report(
        [
            Layer(node.name, node.kind, _slope(node, counts.units), counts, node.ceiling)
            for node, counts in zip(network.rectifiers, totals, strict=True)
            if counts is not None
        ],
        data=network.checks,
    )


class _Network:
    """A model whose outputs are the inputs of its rectifiers."""

    def __init__(self, path: Path, unit_axis: dict[str, int], providers: list[str]) -> None:
        if not path.is_file():
            raise FileNotFoundError(f"there is no file {path}")
        self.path = path
        onnx, runtime = (require(name, by="leakyrelu.onnx") for name in ("onnx", "onnxruntime"))
        try:
            model = onnx.load(path, load_external_data=False)
            if not model.graph.node:
                raise ValueError("it has no nodes")
        except Exception as error:
            raise ValueError(f"{path} is no ONNX model: {first_line(error)}") from None
        if model.functions:
            model = importlib.import_module("onnx.inliner").inline_local_functions(model)
        graph = _Graph(model.graph, path.parent)
        self.rectifiers = graph.rectifiers()
        hidden = f"{few([*map(repr, graph.hidden)], 8)} lie within branches or loops, where they cannot be counted"
        if not self.rectifiers:
            why = f": {hidden}" if graph.hidden else _cause_of_none(graph)
            raise ValueError(f"{path} has no rectifier to count{why}")
        if graph.hidden:
            warnings.warn(f"{path}: {hidden}", stacklevel=3)
        if unknown := [name for name in unit_axis if name not in {node.name for node in self.rectifiers}]:
            raise ValueError(
                f"unit_axis names {unknown[0]!r}, which is not counted; there are "
                f"{few([repr(node.name) for node in self.rectifiers], 8)}"
            )
        self.rectifiers = [node._replace(axis=unit_axis.get(node.name, node.axis)) for node in self.rectifiers]
        self.session = _session(onnx, runtime, model, [node.tensor for node in self.rectifiers], path, providers)
        self.inputs = {entry.name: entry for entry in self.session.get_inputs()}
        self.checks: list[InputCheck] = []

    def pieces(self, batch: Any, batch_size: int) -> Iterator[tuple[Inputs, int | None, int]]:
        """Split a batch into what the model takes: (inputs, how many rows to keep or None for all, samples)."""
        inputs = self._named(batch)
        # Given whole every time: an input without axes, and one whose declared shape is fixed and is the array's.
        split = {name for name, x in inputs.items() if x.ndim and list(self.inputs[name].shape) != list(x.shape)}
        sizes = {name: len(inputs[name]) for name in split}
        if len(set(sizes.values())) > 1:
            text = ", ".join(f"{name}: {size}" for name, size in sizes.items())
            raise ValueError(f"the inputs hold different numbers of samples ({text}): give each the same number")
        self._check({name: x for name, x in inputs.items() if name not in split})
        if not split:
            yield inputs, None, max((len(x) for x in inputs.values() if x.ndim), default=1)
            return
        total = next(iter(sizes.values()))
        declared = {self.inputs[name].shape[0] for name in split}
        fixed = {size for size in declared if isinstance(size, int) and size > 0}
        if len(fixed) > 1:
            raise ValueError(f"{self.path} takes fixed batches of different sizes ({sorted(fixed)}): split the data")
        step = next(iter(fixed), batch_size)
        for start in range(0, total, step):
            part = {name: x[start : start + step] if name in split else x for name, x in inputs.items()}
            size = min(step, total - start)
            self._check({name: part[name] for name in split})
            if fixed and size < step:
                yield self._filled(part, split, size, step), size, size
            else:
                yield part, None, size

    def _check(self, arrays: Inputs) -> None:
        self.checks = merge_checks([*self.checks, *(check_array(x, name) for name, x in arrays.items())])

    def count(self, inputs: Inputs, kept: int | None) -> Iterator[Counts]:
        for node, x in zip(self.rectifiers, self._run(inputs), strict=True):
            if kept is not None:
                x = x[:kept]
            units = x.shape[checked_axis(node.axis, node.name, x.shape)] if x.ndim >= 2 else 1
            yield count_array(x, node.axis, _slope(node, units), node.ceiling)

    def _run(self, inputs: Inputs) -> list[NDArray[Any]]:
        try:
            found: list[NDArray[Any]] = self.session.run(None, inputs)
        except Exception as error:
            shapes = ", ".join(f"{name} {x.dtype} {x.shape}" for name, x in inputs.items())
            raise ValueError(f"{self.path} could not be run on {shapes}: {first_line(error)}") from error
        return found

    def _filled(self, part: Inputs, split: set[str], size: int, step: int) -> Inputs:
        """Fill the batch up, once with its first and once with its last sample: what is kept must not notice."""
        results = []
        for filler in (0, size - 1):
            rows = [*range(size), *[filler] * (step - size)]
            inputs = {name: np.ascontiguousarray(x[rows]) if name in split else x for name, x in part.items()}
            results.append((inputs, self._run(inputs)))
        for node, first, second in zip(self.rectifiers, results[0][1], results[1][1], strict=True):
            if not (first.ndim and len(first) == step and np.array_equal(first[:size], second[:size], equal_nan=True)):
                raise ValueError(
                    f"{self.path} takes exactly {step} samples at a time, {size} are left over, and at {node.name} "
                    f"they cannot be told apart from those that would fill up the batch: give a multiple of {step}"
                )
        return results[0][0]

    def _named(self, batch: Any) -> Inputs:
        known = self.inputs
        if not isinstance(batch, Mapping):
            arrays = list(batch) if isinstance(batch, tuple | list) else [batch]
            if len(arrays) < len(known):
                raise ValueError(
                    f"{self.path} has {len(known)} inputs ({_described(known)}): "
                    "give a mapping from their names to arrays"
                )
            batch = dict(zip(known, arrays, strict=False))
        elif missing := [name for name in known if name not in batch]:
            raise ValueError(
                f"no array for the input {missing[0]!r} among {few([*map(repr, batch)], 8)}: "
                f"the model takes {_described(known)}"
            )
        return {name: self._cast(name, batch[name]) for name in known}

    def _cast(self, name: str, value: Any) -> NDArray[Any]:
        x = np.asarray(value)
        wanted = _DTYPES.get(self.inputs[name].type)
        if wanted is None or x.dtype == wanted:
            return x
        if x.dtype.kind == "f" and np.dtype(wanted).kind == "f":
            return x.astype(wanted)
        if x.dtype.kind in "iu" and np.dtype(wanted).kind in "iu" and np.array_equal(x, x.astype(wanted)):
            return x.astype(wanted)
        raise ValueError(
            f"the input {name!r} of {self.path} takes {np.dtype(wanted)}, but the data is {x.dtype}: convert it with "
            f".astype({np.dtype(wanted).name!r})"
        )


_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(int16)": np.int16,
    "tensor(int8)": np.int8,
    "tensor(uint8)": np.uint8,
    "tensor(bool)": np.bool_,
}


def _session(onnx: Any, runtime: Any, model: Any, tensors: list[str], path: Path, providers: list[str]) -> Any:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.output[:]
    inputs = {value.name: value for value in model.graph.input}
    kept = _needed(model.graph, tensors)
    del copy.graph.node[:]
    copy.graph.node.extend(kept)  # what stands behind the last rectifier need not run
    for i, tensor in enumerate(tensors):
        # An Identity each: two rectifiers may share a tensor, and a tensor may be an input of the model.
        name = f"leakyrelu:{i}"
        copy.graph.node.append(onnx.helper.make_node("Identity", [tensor], [name]))
        value = onnx.ValueInfoProto()
        value.name = name
        if tensor in inputs:
            value.type.CopyFrom(inputs[tensor].type)
        copy.graph.output.append(value)  # without a type: ONNX Runtime infers it
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # what is wrong comes as an exception, too
    options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent.resolve()))
    try:
        session = runtime.InferenceSession(copy.SerializeToString(), options, providers=providers)
        if any(entry.type == "tensor(bfloat16)" for entry in session.get_outputs()):  # NumPy has no such type
            for node in copy.graph.node[-len(tensors) :]:
                node.op_type = "Cast"
                node.attribute.append(onnx.helper.make_attribute("to", onnx.TensorProto.FLOAT))
            session = runtime.InferenceSession(copy.SerializeToString(), options, providers=providers)
    except Exception as error:
        raise ValueError(f"ONNX Runtime cannot load {path}: {first_line(error)}") from None
    return session


def _batches(data: Any) -> Iterable[Any]:
    if isinstance(data, Mapping) or hasattr(data, "__array__"):
        return [data]
    if isinstance(data, str | bytes | os.PathLike) or not isinstance(data, Iterable):
        raise TypeError(
            f"data must be an array, a mapping from input names to arrays, or an iterable of these, "
            f"not {type(data).__name__}"
        )
    return data


def _slope(node: _Rectifier, units: int) -> Any:
    """Return the slopes as one number or one a unit."""
    if node.slope.size == 1:
        return float(node.slope.reshape(-1)[0])
    if node.slope.size != units:
        raise ValueError(
            f"{node.name} has slopes of shape {node.slope.shape} for {units} units along axis {node.axis}: "
            f"say which axis holds its units, with unit_axis={{{node.name!r}: ...}}"
        )
    return node.slope.reshape(-1)


def _cause_of_none(graph: _Graph) -> str:
    """Return why a graph has no rectifier that can be observed, as the end of a message."""
    kinds = sorted({node.op_type for node in graph.graph.node})
    if fused := [kind for kind in kinds if kind in _FUSED]:
        return (
            f": the file is optimized, and its rectifiers are fused into {fused[0]}; take the file before optimization"
        )
    return f" (Relu, LeakyRelu, PRelu, or Clip with a minimum of 0); its operators are {few(kinds, 8)}"


def _described(inputs: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {entry.type} {entry.shape}" for name, entry in inputs.items())
