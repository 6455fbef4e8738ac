"""Files of ONNX, made node by node."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper


def tensor(name, value):
    return numpy_helper.from_array(np.asarray(value), name)


def save(path, nodes, inputs, tensors, *, opset=13, output="y", dtype=TensorProto.FLOAT, **keywords):
    graph = helper.make_graph(
        nodes,
        "test",
        [helper.make_tensor_value_info(name, kind, shape) for name, kind, shape in inputs],
        [helper.make_tensor_value_info(output, dtype, None)],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    onnx.save(model, path, **keywords)
    return path
