"""Calls that replace_relu rewrote, under torch.compile, torch.export and symbolic tracing."""

import pytest
import torch
import torch.nn.functional as F
from support.leaky_calls import SLOPE, Plain, check, leaky, rewritten
from torch import nn

from leakyrelu.torch import replace_relu


def test_compiled_whole(x):
    model, reference, _ = rewritten()
    torch._dynamo.reset()
    check(model.eval(), reference.eval(), x, torch.compile(model, fullgraph=True, backend="aot_eager"))


def test_compiled_first_and_rewritten_then(x):
    torch._dynamo.reset()
    model = Plain()
    compiled = torch.compile(model, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(x), torch.relu(x - 0.1))
    replace_relu(model, SLOPE)
    torch.testing.assert_close(compiled(x), leaky(x - 0.1))


@pytest.mark.parametrize("strict", [False, True])
@pytest.mark.filterwarnings("ignore:While (compil|export)ing, we found certain side effects")  # of any function mode
def test_exported(x, strict):
    model, reference, _ = rewritten()
    program = torch.export.export(model.eval(), (x,), strict=strict)
    targets = [str(node.target) for node in program.graph.nodes]
    assert targets.count("aten.relu.default") == 1  # of the module that stays
    torch.testing.assert_close(program.module()(x), reference.eval().by_hand(x))


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_traced_by_others(x):
    model, reference, _ = rewritten()
    expected = reference.eval().by_hand(x)
    torch.testing.assert_close(torch.jit.trace(model.eval(), x)(x), expected)
    block, by_hand = model.blocks[0], reference.blocks[0].by_hand
    graph = torch.fx.symbolic_trace(block)
    torch.testing.assert_close(graph(x), by_hand(x))


def test_a_graph_of_others_holds_what_is_computed(x):
    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.stays = Plain()
            self.stays.forward = lambda x: (x - 0.1).relu()

        def forward(self, x):
            x.relu_()
            return self.stays(x).clone().clamp_(min=0).mul(2.0).relu()

    model, _, report = rewritten(Around)
    assert [name for name, _ in report.left] == ["stays"]
    graph = torch.fx.symbolic_trace(model)
    y = x.clone()
    torch.testing.assert_close(graph(y), 2 * torch.relu(leaky(x) - 0.1))
    torch.testing.assert_close(y, leaky(x))
    torch.testing.assert_close(model(x.clone()), graph(x.clone()))


def test_what_stays_does_so_in_a_compiled_network_too(x):
    """A layer that torch.fx cannot trace, in a container of PyTorch's into which it does not look."""

    class Odd(nn.TransformerEncoderLayer):
        def __init__(self):
            super().__init__(6, 2)
            self.plain = Plain()

        def forward(self, src, src_mask=None, is_causal=False, src_key_padding_mask=None):
            y = self.plain(src)
            return F.relu(y) if len(src) > 2 else y

    class Around(nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = nn.TransformerEncoder(Odd(), 1, enable_nested_tensor=False)

        def forward(self, x):
            return F.relu(self.encoder(x) - 0.5)

    model, _, report = rewritten(Around)
    assert set(report.rewritten) == {("", "relu", 1), ("encoder.layers.0.plain", "relu", 1)}
    assert report.left[0][0] == "encoder.layers.0"
    expected = leaky(torch.relu(leaky(x - 0.1)) - 0.5)
    torch.testing.assert_close(model(x), expected)
    torch._dynamo.reset()
    torch.testing.assert_close(torch.compile(model, fullgraph=True, backend="eager")(x), expected)
