"""Exported networks hold the standard operators, and compute the same in ONNX Runtime."""

from __future__ import annotations

import io

import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from leakyrelu.torch import CenteredLeakyReLU, LeakyReLU, NormLeakyReLU, PReLU, save_memory

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # of PyTorch's exporters, for their own functions
    pytest.mark.filterwarnings("ignore:.*operator 'instance_norm' is set to train=True"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),  # and for what its layers check
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]


def network():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3),
        LeakyReLU(0.1),
        nn.Conv2d(4, 4, 3),
        PReLU(4, 0.3),
        nn.Conv2d(4, 4, 1),
        NormLeakyReLU(nn.BatchNorm2d(4), 0.2),
        NormLeakyReLU(nn.InstanceNorm2d(4), 0.2),
        LeakyReLU(0.3, inplace=True),
        CenteredLeakyReLU(0.5),
    )
    with torch.no_grad():
        model(torch.randn(8, 1, 20, 20))  # running statistics that are not 0 and 1
    return model


# Few elements, which PyTorch's own functions compute in any case, and many, which ours would.
SIZES = {"small": (2, 1, 12, 12), "large": (1, 1, 400, 400)}


@pytest.mark.parametrize("shape", SIZES.values(), ids=SIZES.keys())
@pytest.mark.parametrize("wants_gradient", [False, True])
@pytest.mark.parametrize("training", [False, True])
def test_exported_programs_hold_operators_of_pytorch_alone(shape, wants_gradient, training):
    model = network().train(training)
    x = torch.randn(shape, requires_grad=wants_gradient)
    program = torch.export.export(model, (x,))
    names = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert all(name.startswith("aten.") for name in names)
    assert names.count("aten.leaky_relu.default") + names.count("aten.leaky_relu_.default") == 5
    assert names.count("aten.prelu.default") == 1
    if not training:
        torch.testing.assert_close(program.module()(x), model(x))


def exported(model, x, dynamo):
    if dynamo:
        return torch.onnx.export(model, (x,), dynamo=True, verbose=False).model_proto
    file = io.BytesIO()
    torch.onnx.export(model, (x,), file, dynamo=False)
    return onnx.load_from_string(file.getvalue())


@pytest.mark.parametrize("dynamo", [True, False], ids=["dynamo", "torchscript"])
@pytest.mark.parametrize("shape", SIZES.values(), ids=SIZES.keys())
def test_onnx_files_hold_the_standard_nodes(shape, dynamo):
    model = network().eval()
    x = torch.randn(shape)
    file = exported(model, x, dynamo)
    kinds = [node.op_type for node in file.graph.node]
    assert (kinds.count("LeakyRelu"), kinds.count("PRelu")) == (5, 1)
    assert {node.domain for node in file.graph.node} == {""}
    slopes = [node.attribute[0].f for node in file.graph.node if node.op_type == "LeakyRelu"]
    assert slopes == pytest.approx([0.1, 0.2, 0.2, 0.3, 0.5])
    session = onnxruntime.InferenceSession(file.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), model(x).detach(), rtol=1e-4, atol=1e-5)


def test_a_rewritten_network_exports_to_the_nodes_of_the_original():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.LeakyReLU(0.2), nn.Conv2d(4, 4, 3), nn.PReLU(4))
    x = torch.randn(2, 1, 12, 12)
    before = [node.op_type for node in exported(model.eval(), x, True).graph.node]
    assert len(save_memory(model).joined) == 1
    assert [node.op_type for node in exported(model, x, True).graph.node] == before
