"""Adapter for ONNX files: the same census of units, for a network of any framework, run by ONNX Runtime.

The inputs of all rectifiers become the outputs of a copy of the graph, in memory; the file is only read. What comes out
is counted batch by batch, so memory is that of one batch's activations, however much data passes.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from leakyrelu._checks import integer
from leakyrelu._extras import require
from leakyrelu._text import few, first_line, with_article
from leakyrelu.diagnosis.input_check import check_array, merge_checks
from leakyrelu.diagnosis.place import Place
from leakyrelu.diagnosis.report import Report
from leakyrelu.diagnosis.unit_tally import UnitTally
from leakyrelu.onnx.graph import Graph
from leakyrelu.onnx.layouts import find_layouts
from leakyrelu.onnx.model_file import read_model

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from leakyrelu.diagnosis.input_check import InputCheck
    from leakyrelu.diagnosis.layout import Layout

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
        Which axis holds the units, for the nodes named here. Without it, the layer that feeds the rectifier decides,
        followed through reshapes, transpositions, sums, products of activations and the like. Where it cannot be
        followed, axis 1 is assumed; `Layer.axis` says so, and holds the counts along the other axes.
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
    tallies = [
        UnitTally(node.name, node.slope, node.ceiling, network.unit_axis.get(node.name)) for node in network.rectifiers
    ]
    done = 0
    for batch in _batches(data):
        for inputs, kept, size in network.pieces(batch, batch_size):
            for tally, layout, x in zip(tallies, network.layouts(inputs), network.rectified(inputs), strict=True):
                tally.add(x if kept is None else x[:kept], layout)
            done += size
            if progress is not None:
                progress(done)
    if not done:
        raise ValueError("data holds no sample: give an array, samples first, or an iterable of batches")
    layers = [
        tally.layer(node.kind, Place(after=node.after))
        for node, tally in zip(network.rectifiers, tallies, strict=True)
        if tally.counts is not None
    ]
    return Report(layers, source="onnx", data=network.checks)


class _Network:
    """A model whose outputs are the inputs of its rectifiers."""

    def __init__(self, path: Path, unit_axis: dict[str, int], providers: list[str]) -> None:
        self.path, self.unit_axis, self._providers = path, unit_axis, providers
        self._model = read_model(path)
        try:
            self._network_graph = Graph(self._model, path.parent)
            self.rectifiers = self._network_graph.rectifiers()
        except ValueError as error:
            raise ValueError(f"{path} cannot be used: {error}") from None
        hidden = few([*map(repr, self._network_graph.hidden)], 8)
        within = f"{hidden} lie within branches or loops, where they cannot be counted"
        if not self.rectifiers:
            why = f": {within}" if self._network_graph.hidden else _cause_of_none(self._network_graph)
            raise ValueError(f"{path} has no rectifier to count{why}")
        if self._network_graph.hidden:
            warnings.warn(f"{path}: {within}", stacklevel=3)
        if unknown := [name for name in unit_axis if name not in {node.name for node in self.rectifiers}]:
            raise ValueError(
                f"unit_axis names {unknown[0]!r}, which is not counted; there are "
                f"{few([repr(node.name) for node in self.rectifiers], 8)}"
            )
        self._tensors = [node.tensor for node in self.rectifiers]
        self._nodes = self._network_graph.needed(self._tensors)  # what stands behind the last rectifier need not run
        self._session = self._make_session(self._tensors)
        if any(entry.type == "tensor(bfloat16)" for entry in self._session.get_outputs()):  # NumPy has no such type
            self._session = self._make_session(
                self._tensors, "Cast", to=require("onnx", by="leakyrelu.onnx").TensorProto.FLOAT
            )
        self.inputs = {entry.name: entry for entry in self._session.get_inputs()}
        for name, entry in self.inputs.items():
            if not entry.type.startswith("tensor("):
                raise ValueError(f"the input {name!r} of {path} is {entry.type}: only tensors can be given")
        self._layouts: list[Layout | None] | None = None
        self.checks: list[InputCheck] = []

    def _make_session(self, tensors: list[str], operator: str = "Identity", **attributes: Any) -> Any:
        """Make a session whose outputs are what an operator makes of these tensors.

        A node for each: two rectifiers may share a tensor, and a tensor may be an input of the model.
        """
        onnx, runtime = (require(name, by="leakyrelu.onnx") for name in ("onnx", "onnxruntime"))
        copy, source = onnx.ModelProto(), self._model
        copy.CopyFrom(source)
        del copy.graph.output[:], copy.graph.node[:]
        copy.graph.node.extend(self._nodes)
        declared = {value.name: value for value in source.graph.input}
        prefix = "leakyrelu"
        while any(name.startswith(f"{prefix}:") for name in (*self._network_graph.producers, *declared)):
            prefix += "_"
        for i, tensor in enumerate(tensors):
            copy.graph.node.append(onnx.helper.make_node(operator, [tensor], [f"{prefix}:{i}"], **attributes))
            value = onnx.ValueInfoProto()
            value.name = f"{prefix}:{i}"
            if tensor in declared and operator == "Identity":
                value.type.CopyFrom(declared[tensor].type)
            copy.graph.output.append(value)  # without a type: ONNX Runtime infers it
        options = runtime.SessionOptions()
        options.log_severity_level = 4  # what is wrong comes as an exception, too
        folder = str(self.path.parent.resolve())
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", folder)
        if operator == "Shape":  # runs once
            options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            return runtime.InferenceSession(copy.SerializeToString(), options, providers=self._providers)
        except Exception as error:
            raise ValueError(f"ONNX Runtime cannot load {self.path}: {first_line(error)}") from None

    def layouts(self, inputs: Inputs) -> list[Layout | None]:
        """Return where the inputs of the rectifiers have their units: found once, from the shapes of a run."""
        if self._layouts is None:
            made = [name for node in self._nodes if node.op_type not in _WITHOUT_SHAPE for name in node.output if name]
            tensors = list(dict.fromkeys([*self.inputs, *self._network_graph.initializers, *made]))
            try:
                found = self._make_session(tensors, "Shape").run(None, inputs)
            except Exception:  # a tensor that has no shape, such as a sequence: the axes are assumed then
                found = []
            shapes = {name: tuple(map(int, shape)) for name, shape in zip(tensors, found, strict=False)}
            layouts = find_layouts(self._network_graph, self._nodes, shapes)
            self._layouts = [layouts.get(tensor) for tensor in self._tensors]
        return self._layouts

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
        declared = {size for name in split for size in self.inputs[name].shape[:1]}
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

    def rectified(self, inputs: Inputs) -> list[NDArray[Any]]:
        """Run the model and return the inputs of the rectifiers."""
        try:
            found: list[Any] = self._session.run(None, inputs)
        except Exception as error:
            shapes = ", ".join(f"{name} {x.dtype} {x.shape}" for name, x in inputs.items())
            raise ValueError(f"{self.path} could not be run on {shapes}: {first_line(error)}") from error
        for node, x in zip(self.rectifiers, found, strict=True):
            if not isinstance(x, np.ndarray):
                kind = with_article(type(x).__name__)
                raise ValueError(f"the input of {node.name} in {self.path} is {kind}, not a tensor")
        return found

    def _filled(self, part: Inputs, split: set[str], size: int, step: int) -> Inputs:
        """Fill the batch up, once with its first and once with its last sample: what is kept must not notice."""
        results = []
        for filler in (0, size - 1):
            rows = [*range(size), *[filler] * (step - size)]
            inputs = {name: np.ascontiguousarray(x[rows]) if name in split else x for name, x in part.items()}
            results.append((inputs, self.rectified(inputs)))
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


_FUSED = ("FusedConv", "FusedGemm", "FusedMatMul")  # the rectifier inside them cannot be observed
# Operators whose outputs may be sequences, or of another shape each time.
_WITHOUT_SHAPE = frozenset(
    {"If", "Loop", "Scan", "SequenceAt", "SequenceConstruct", "SequenceEmpty", "SequenceInsert", "SequenceErase"}
    | {"SequenceMap", "SplitToSequence", "Optional", "OptionalGetElement", "ZipMap"}
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


def _batches(data: Any) -> Iterable[Any]:
    if isinstance(data, Mapping) or hasattr(data, "__array__"):
        return [data]
    if isinstance(data, str | bytes | os.PathLike) or not isinstance(data, Iterable):
        raise TypeError(
            f"data must be an array, a mapping from input names to arrays, or an iterable of these, "
            f"not {type(data).__name__}"
        )
    return data


def _cause_of_none(graph: Graph) -> str:
    """Return why a graph has no rectifier that can be observed, as the end of a message."""
    kinds = sorted({node.op_type for node in graph.graph.node})
    if fused := [kind for kind in kinds if kind in _FUSED]:
        return (
            f": the file is optimized, and its rectifiers are fused into {fused[0]}; take the file before optimization"
        )
    return f" (Relu, LeakyRelu, PRelu, or Clip with a minimum of 0); its operators are {few(kinds, 8)}"


def _described(inputs: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {entry.type} {entry.shape}" for name, entry in inputs.items())
