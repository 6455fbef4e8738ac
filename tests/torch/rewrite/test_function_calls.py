"""replace_relu on calls of functions: the network is the one written by hand with `torch.nn.functional.leaky_relu`."""

import copy
import io
import math
import pickle
import threading

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils.checkpoint import checkpoint

from leakyrelu.torch import diagnose, replace_relu, restore, revive, save_memory, watch
from leakyrelu.torch.rewrite.function_calls import LeakyFunction

SLOPE = 0.3


def leaky(x, slope=SLOPE):
    return F.leaky_relu(x, slope)


class Block(nn.Module):
    """Calls a ReLU in many ways, and what looks like one; `by_hand` makes all of them leaky."""

    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(6, 6), nn.Linear(6, 6)
        self.norm = nn.BatchNorm1d(6)
        self.register_buffer("index", torch.tensor([-3, 2, 5]))

    def forward(self, x):
        x = torch.relu(self.one(x))
        x = F.dropout(x, 0.5, training=self.training)
        y = self.two(x)
        y = y.relu() + F.relu(y) + F.relu(y - 1.0, inplace=True) + F.relu(input=y + 1.0)
        y = y.clamp(min=0) + torch.clamp(y, 0) + y.clip(0.0) + torch.clamp_min(y, 0)
        y = y.clone().relu_() + (y - 0.5).clamp_(min=0) + F.relu_(y + 0.5) + (y - 2).clamp_min_(0)
        y = y + y.clamp(0, 1) + y.clamp(max=0) + y.clamp(min=-1) + F.relu6(y)
        return self.norm(y.relu())[:, self.index.clamp(min=0)]

    def by_hand(self, x, slope=SLOPE):
        def act(t):
            return F.leaky_relu(t, slope)

        x = act(self.one(x))
        x = F.dropout(x, 0.5, training=self.training)
        y = self.two(x)
        y = act(y) + act(y) + act(y - 1.0) + act(y + 1.0)
        y = act(y) * 4
        y = act(y) + act(y - 0.5) + act(y + 0.5) + act(y - 2)
        y = y + y.clamp(0, 1) + y.clamp(max=0) + y.clamp(min=-1) + F.relu6(y)
        return self.norm(act(y))[:, [0, 2, 5]]


class Special(nn.ReLU):
    pass


class Network(nn.Module):
    """An owner of calls, with others in it, a ReLU module, and one that is to stay."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Linear(6, 6)
        self.blocks = nn.Sequential(Block(), nn.ReLU(), nn.Linear(3, 6), Block())
        self.special = Special()

    def forward(self, x, scale=1.0):
        return self.special(self.blocks(F.relu(self.stem(x))) * scale)

    def by_hand(self, x, scale=1.0):
        x = leaky(self.blocks[0].by_hand(leaky(self.stem(x))))
        return torch.maximum(self.blocks[3].by_hand(self.blocks[2](x)) * scale, torch.zeros(()))


def rewritten(make=Network, slope=SLOPE, **options):
    torch.manual_seed(0)
    model = make()
    reference = copy.deepcopy(model)
    return model, reference, replace_relu(model, slope, **options)


def outcome(model, run, x, seed=1):
    """Output, gradients and buffers of one step."""
    torch.manual_seed(seed)
    x = x.clone().requires_grad_()
    y = run(x)
    (y * torch.arange(y.numel()).view(y.shape).cos()).sum().backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    return {"y": y.detach(), "x": x.grad, **gradients, **{name: b.clone() for name, b in model.named_buffers()}}


def check(model, reference, x, run=None):
    run = model if run is None else run
    torch.testing.assert_close(outcome(model, run, x), outcome(reference, reference.by_hand, x))


@pytest.fixture
def x():
    return torch.randn(5, 6, generator=torch.Generator().manual_seed(3))


def test_every_call_is_leaky_forward_and_backward(x):
    model, reference, report = rewritten()
    calls = {(name, call): number for name, call, number in report.rewritten}
    block = {"relu": 6, "relu_": 2, "clamp(min=0)": 2, "clip(min=0)": 1}
    block |= {"clamp_min(min=0)": 1, "clamp_(min=0)": 1, "clamp_min_(min=0)": 1}
    expected = {("", "relu"): 1, **{(name, c): n for name in ("blocks.0", "blocks.3") for c, n in block.items()}}
    assert calls == expected
    assert report.swapped == ("blocks.1",)
    assert report.left == (("special", "Special is a subclass of nn.ReLU and may do more"),)
    check(model, reference, x)
    check(model.eval(), reference.eval(), x)
    assert not torch.equal(model(x), copy.deepcopy(model).train()(x))  # dropout and statistics follow the mode
    check(model.train(), reference.train(), x)


def test_the_class_is_the_same_to_the_eye_and_isinstance():
    model, reference, _ = rewritten()
    assert isinstance(model, Network)
    assert type(model) is not Network
    for name in ("__name__", "__qualname__", "__module__", "__doc__"):
        assert getattr(type(model), name) == getattr(Network, name)
    assert type(model.blocks[0]) is type(model.blocks[3])
    assert repr(model.blocks[0]).splitlines()[:2] == ["Block(", f"  relu=leaky_relu({SLOPE})"]
    assert repr(model.special) == "Special()"
    assert list(model.state_dict()) == list(reference.state_dict())
    model.load_state_dict(reference.state_dict())
    reference.load_state_dict(model.state_dict())


def test_copies_and_pickles(x):
    model, reference, _ = rewritten()
    saved = io.BytesIO()
    torch.save(model, saved)
    saved.seek(0)
    copies = [
        *(
            copy.deepcopy(model),
            copy.deepcopy(copy.deepcopy(model)),
            copy.copy(model),
            torch.load(saved, weights_only=False),
        ),
        *(pickle.loads(pickle.dumps(model, protocol)) for protocol in (0, 2, 5)),
    ]
    for each in copies:
        assert type(each) is type(model)
        torch.testing.assert_close(each.eval()(x), reference.eval().by_hand(x))


def test_a_class_with_words_of_its_own_on_copying(x):
    model, reference, _ = rewritten(Own)
    again = pickle.loads(pickle.dumps(copy.deepcopy(model)))
    assert type(again) is type(model)
    assert again.made == reference.made == "from 6"
    check(again, reference, x)
    assert Own.subclasses == ()


class Own(nn.Module):
    subclasses = ()

    def __init_subclass__(cls, *, label, **options):
        Own.subclasses += (label,)

    def __init__(self, size=6):
        super().__init__()
        self.line, self.made = nn.Linear(size, size), f"from {size}"

    def __reduce__(self):
        return type(self), (6,), {"line": self.line}

    def __setstate__(self, state):
        self.line = state["line"]

    def forward(self, x):
        return self.line(x).relu()

    def by_hand(self, x):
        return leaky(self.line(x))


def test_called_twice_there_is_no_relu_left(x):
    model, reference, _ = rewritten()
    kinds = [type(module) for module in model.modules()]
    again = replace_relu(model, 0.9)
    assert (again.rewritten, again.swapped, again.stored) == ((), (), ())
    assert [type(module) for module in model.modules()] == kinds
    check(model, reference, x)


@pytest.mark.parametrize("slope", [0.0, -0.5, 1.5, math.inf, math.nan])
def test_any_slope(x, slope):
    model, reference, _ = rewritten(Block, slope)
    with torch.no_grad():
        torch.testing.assert_close(model.eval()(x), reference.eval().by_hand(x, slope), equal_nan=True)


def test_parts_with_slopes_of_their_own(x):
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = Plain()

        def forward(self, x):
            return self.inner(F.relu(x)) - F.relu(-x)

    model = Pair()
    replace_relu(model.inner, 0.1)
    replace_relu(model, 0.5)
    torch.testing.assert_close(model(x), leaky(leaky(x, 0.5) - 0.1, 0.1) - leaky(-x, 0.5))


class Plain(nn.Module):
    def forward(self, x):
        return F.relu(x - 0.1)


def test_in_place_stays_in_place():
    class InPlace(nn.Module):
        def forward(self, x):
            x.relu_()
            return x

    model, _, report = rewritten(InPlace)
    assert report.rewritten == (("", "relu_", 1),)
    x = torch.tensor([-2.0, 3.0])
    assert model(x) is x
    torch.testing.assert_close(x, torch.tensor([-2 * SLOPE, 3.0]))
    with pytest.raises(RuntimeError, match="a leaf Variable that requires grad is being used in an in-place operation"):
        model(torch.ones(2, requires_grad=True))


def test_calls_of_operators(x):
    class Operators(nn.Module):
        def forward(self, x):
            return torch.ops.aten.relu(x) + torch.ops.aten.clamp.default(x, 0) + torch.ops.aten.relu.default(x)

    model, _, report = rewritten(Operators)
    assert sum(number for _, _, number in report.rewritten) == 3
    torch.testing.assert_close(model(x), 3 * leaky(x))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_double_backward_and_forward_mode():
    model, _, _ = rewritten(Plain)
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(model, x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(lambda t: model(t) ** 2, x)
    jacobian = torch.func.vmap(torch.func.jacrev(model))(x.detach())
    torch.testing.assert_close(jacobian.diagonal(dim1=1, dim2=2), torch.where(x > 0.1, 1.0, SLOPE).double())


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
@pytest.mark.filterwarnings("ignore:While compiling, we found certain side effects:UserWarning")  # of any function mode
def test_exported(x, strict):
    model, reference, _ = rewritten()
    program = torch.export.export(model.eval(), (x,), strict=strict)
    targets = [str(node.target) for node in program.graph.nodes]
    assert targets.count("aten.relu.default") == 1  # of the module that stays
    torch.testing.assert_close(program.module()(x), reference.eval().by_hand(x))


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
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


def test_replicas_in_threads(x):
    model, reference, _ = rewritten()
    model.eval()
    expected = reference.eval().by_hand(x)
    outputs = {}

    def run(k):
        replica = model._replicate_for_data_parallel()
        outputs[k] = [replica(x), torch.relu(x), model(x), F.relu(x)]

    threads = [threading.Thread(target=run, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, plain, two, also_plain in outputs.values():
        torch.testing.assert_close((one, two), (expected, expected))
        torch.testing.assert_close((plain, also_plain), (x.clamp(0, math.inf),) * 2)


def test_hooks_see_relu_as_it_is(x):
    """What hooks call is no call of the forward method."""
    model, reference, _ = rewritten()
    seen = []
    for module in (model, model.stem, model.blocks[0]):
        module.register_forward_hook(lambda module, args, output: seen.append((output.relu(), output)))
    check(model, reference, x)
    assert len(seen) == 3
    for relu, output in seen:
        torch.testing.assert_close(relu, torch.maximum(output, torch.zeros(())))


def test_an_error_ends_the_redirection(x):
    model, _, _ = rewritten()
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        model(x[:, :2])
    assert torch.equal(F.relu(-x.abs()), torch.zeros_like(x))


# Checkpoints


class Checkpointed(nn.Module):
    def __init__(self, reentrant=False):
        super().__init__()
        self.line, self.block, self.function, self.reentrant = nn.Linear(6, 6), Own(), False, reentrant

    def inner(self, x):
        return F.relu(self.line(x))

    def forward(self, x):
        y = checkpoint(self.block, x, use_reentrant=self.reentrant)
        return F.relu(y) + (checkpoint(self.inner, y, use_reentrant=self.reentrant) if self.function else self.inner(y))

    def by_hand(self, x):
        y = self.block.by_hand(x)
        return leaky(y) + leaky(self.line(y))


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.filterwarnings("ignore:None of the inputs have requires_grad=True:UserWarning")
def test_checkpoints_of_modules(x, reentrant):
    model, reference, report = rewritten(lambda: Checkpointed(reentrant))
    assert set(report.rewritten) == {("", "relu", 2), ("block", "relu", 1)}
    check(model, reference, x)
    model.function = True
    remedy = "is called inside torch.utils.checkpoint, .* give checkpoint a module instead of a function, or call leaky"
    with pytest.raises(RuntimeError, match=remedy):
        model(x.requires_grad_())


def test_what_runs_apart_is_left(x):
    class Apart(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clamp(min=0)

        @staticmethod
        def backward(ctx, gradient):
            return 7 * gradient

    class Functions(nn.Module):
        def forward(self, x):
            return Apart.apply(x)

    def make():
        model = nn.Sequential(Checkpointed(), Functions())
        model[0].function = True
        return model

    model, reference, report = rewritten(make)
    assert [name for name, _, _ in report.rewritten] == ["0.block"]
    assert report.left == (
        (
            "0",
            "its forward method calls relu: this stays, torch.utils.checkpoint calls it again in the backward pass, "
            "outside of the method; give it a module instead of a function",
        ),
        (
            "1",
            "its forward method calls clamp(min=0): this stays, it is part of a torch.autograd.Function, which has a "
            "backward of its own",
        ),
    )
    y = reference[0].block.by_hand(x)
    torch.testing.assert_close(model(x), torch.relu(torch.relu(y) + torch.relu(reference[0].line(y))))


# What is seen of it


def test_the_census_sees_leaky_relu(x):
    model, reference, _ = rewritten()
    layers = {layer.name: layer for layer in diagnose(model, [x]).layers}
    stem = layers["leaky_relu()"]
    assert stem.negative_slope == SLOPE
    share = (reference.eval().stem(x) > 0).double().mean(0)
    torch.testing.assert_close(torch.from_numpy(stem.positive_share), share)
    kinds = [layer.kind for name, layer in layers.items() if name.startswith("blocks.0.")]
    assert {kind: kinds.count(kind) for kind in kinds} == {"leaky_relu": 14, "clamp": 2, "relu6": 1}
    with watch(model.blocks[0]) as census:
        model(x)
    kinds = {layer.kind: layer.negative_slope for layer in census.report().layers if layer.kind != "relu6"}
    assert kinds == {"leaky_relu": SLOPE, "clamp": 0.0}


def test_revive_finds_the_calls(x):
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.three = nn.Linear(6, 8), nn.Linear(8, 8), nn.Linear(8, 2)

        def forward(self, x):
            return self.three(self.two(F.relu(self.one(x))).relu())

    model, _, report = rewritten(Two)
    assert report.rewritten == (("", "relu", 2),)
    with torch.no_grad():
        for line in (model.one, model.two):
            line.bias[2] = -100.0
    done = revive(model, diagnose(model, [x] * 20), fold_mean=True)
    assert list(done.revived) == ["leaky_relu()", "leaky_relu()#2"]
    assert all(2 in units for units in done.revived.values())


def test_save_memory_before_and_after(x):
    def make():
        return nn.Sequential(nn.Linear(6, 6), nn.BatchNorm1d(6), nn.LeakyReLU(0.1), Own(), nn.ReLU())

    model, reference, _ = rewritten(make)
    other = copy.deepcopy(reference)
    assert save_memory(other).joined == save_memory(model).joined == (("1", "2"),)
    replace_relu(other, SLOPE)
    expected = leaky(reference[3].by_hand(leaky(reference[1](reference[0](x)), 0.1)))
    for each in (model, other):
        torch.testing.assert_close(each(x), expected)
        restore(each)
        torch.testing.assert_close(each(x), expected)


def test_one_bit_an_element_is_kept(monkeypatch):
    monkeypatch.setattr("leakyrelu.torch.activations.functional._SMALL", 0)

    class Nested(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner, self.act = Plain(), nn.ReLU()

        def forward(self, x):
            return self.act(self.inner(F.relu(x)))

    model, _, _ = rewritten(Nested)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        model(torch.randn(800, requires_grad=True))
    assert [t.untyped_storage().nbytes() for t in kept] == [100, 100, 100]


# Functions that are stored


def test_a_stored_function_is_exchanged(x):
    class Stored(nn.Module):
        def __init__(self):
            super().__init__()
            self.line, self.act, self.over = nn.Linear(6, 6), F.relu, torch.relu_

        def forward(self, x):
            y = self.act(self.line(x), True) if x.sum() == x.sum() else x
            return self.over(y.clone()) + self.act(y)

        def by_hand(self, x):
            y = leaky(self.line(x))
            return leaky(y) + leaky(y)

    model, reference, report = rewritten(Stored)
    assert report.stored == ("act", "over")
    assert (model.act, model.over) == (LeakyFunction(SLOPE), LeakyFunction(SLOPE, True))
    assert report.rewritten == ()
    assert repr(report).splitlines()[1:3] == ["  stored     act", "  stored     over"]
    check(model, reference, x)
    y = torch.tensor([-1.0])
    assert model.over(y) is y
    assert pickle.loads(pickle.dumps(model.act)) == model.act


@pytest.mark.parametrize("activation", ["relu", nn.ReLU()])
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors is in prototype stage:UserWarning")
def test_transformer_in_evaluation(activation):
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, activation=activation, batch_first=True)
    model = nn.TransformerEncoder(layer, 2)
    by_hand = nn.TransformerEncoder(copy.deepcopy(layer), 2)
    by_hand.load_state_dict(model.state_dict())
    for each in by_hand.layers:
        del each.activation
        each.activation, each.activation_relu_or_gelu = leaky, 0
    by_hand.use_nested_tensor = False
    report = replace_relu(model, SLOPE)
    assert report.stored + report.swapped == ("layers.0.activation", "layers.1.activation")
    x = torch.randn(2, 3, 8)
    mask = torch.tensor([[False, False, True], [False, False, False]])
    for training in (True, False):
        with torch.set_grad_enabled(training):
            expected = by_hand.train(training)(x, src_key_padding_mask=mask)
            torch.testing.assert_close(model.train(training)(x, src_key_padding_mask=mask), expected)


# What is left


class Untraceable(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = Plain()

    def forward(self, x):
        return F.relu(self.block(x)) if x.sum() > -1e9 else x


def test_what_cannot_be_followed_is_said_and_its_children_are_rewritten(x):
    model, _, report = rewritten(lambda: nn.Sequential(Untraceable(), Plain()))
    assert report.rewritten == (("0.block", "relu", 1), ("1", "relu", 1))
    said = "symbolically traced variables cannot be used as inputs to control flow"
    reason = f"torch.fx cannot follow its forward method, in which a call of a ReLU stays one: {said}"
    assert report.left == (("0", reason),)
    torch.testing.assert_close(model(x), leaky(torch.relu(leaky(x - 0.1)) - 0.1))


def test_reasons_to_leave(x):
    own = Plain()
    own.forward = lambda x: F.relu(x)
    graph = torch.fx.symbolic_trace(Plain())
    model = nn.ModuleDict({"own": own, "graph": graph})
    report = replace_relu(model, SLOPE)
    assert report.rewritten == ()
    stays = "its forward method calls relu: this stays, "
    assert set(report.left) == {
        ("own", stays + "the method is set on the module itself, not on its class"),
        ("graph", stays + "it is a graph of torch.fx; call replace_relu before it is traced"),
    }
    torch.testing.assert_close(model["graph"](x), torch.relu(x - 0.1))


def test_parametrized_modules_are_left(x):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = nn.Parameter(torch.ones(6))

        def forward(self, x):
            return F.relu(x * self.scale)

    model = nn.Sequential(Scaled(), Scaled())
    nn.utils.parametrize.register_parametrization(model[0], "scale", nn.Softplus())
    report = replace_relu(model, SLOPE)
    assert report.rewritten == (("1", "relu", 1),)
    reason = "its forward method calls relu: this stays, it is parametrized; call replace_relu before that"
    assert ("0", reason) in report.left
    nn.utils.parametrize.register_parametrization(model[1], "scale", nn.Softplus())
    torch.testing.assert_close(model[1](x), leaky(x * F.softplus(torch.ones(6))))
    nn.utils.parametrize.remove_parametrizations(model[1], "scale")
    torch.testing.assert_close(model[1](x), leaky(x * F.softplus(torch.ones(6))))


def test_calls_in_one_mode_and_inside_layers_of_pytorch(x):
    class Modes(nn.Module):
        def forward(self, x):
            return F.relu(x) if self.training else x.relu() + x.relu()

    class Inside(nn.TransformerEncoderLayer):
        def forward(self, src, src_mask=None, is_causal=False, src_key_padding_mask=None):
            return F.relu(src)

    encoder = nn.TransformerEncoder(Inside(6, 2), 2, enable_nested_tensor=False)
    model, _, report = rewritten(lambda: nn.Sequential(Modes(), encoder))
    assert report.rewritten == (("0", "relu", 2), ("1.layers.0", "relu", 1), ("1.layers.1", "relu", 1))
    torch.testing.assert_close(model(x), leaky(leaky(leaky(x))))
    torch.testing.assert_close(model.eval()(x), leaky(leaky(2 * leaky(x))))


def test_arguments_of_every_kind_can_be_followed_again(x):
    class Arguments(nn.Module):
        def __init__(self):
            super().__init__()
            self.line, self.norm, self.act = nn.Linear(6, 6), nn.BatchNorm1d(6), nn.LeakyReLU(0.1)

        def forward(self, x, mask=None, *args, scale=2.0, **options):
            return self.act(self.norm(self.line(x).relu() * scale))

    model, reference, report = rewritten(Arguments)
    assert report.rewritten == (("", "relu", 1),)
    expected = reference.act(reference.norm(leaky(reference.line(x)) * 3.0))
    torch.testing.assert_close(model(x, None, 1, scale=3.0, more=2), expected)
    again = replace_relu(model, 0.9)
    assert (again.rewritten, again.left) == ((), ())
    assert save_memory(model).joined == (("norm", "act"),)
    torch.testing.assert_close(model(x, None, 1, scale=3.0, more=2), expected)


def test_a_class_that_cannot_be_exchanged_is_left(x):
    class Sealed(type(nn.Module)):
        def __new__(meta, name, bases, namespace):
            if any(isinstance(base, Sealed) for base in bases):
                raise TypeError("Final is sealed")
            return super().__new__(meta, name, bases, namespace)

    class Final(nn.Module, metaclass=Sealed):
        def __init__(self):
            super().__init__()
            self.line = nn.Linear(6, 6)

        def forward(self, x):
            return F.relu(self.line(x))

    model, reference, report = rewritten(Final, correct_gain=True)
    words = "its forward method calls relu: this stays, Python cannot exchange its class (Final is sealed)"
    assert report.left == (("", words),)
    assert (report.rewritten, report.rescaled) == ((), ())
    assert torch.equal(model(x), torch.relu(reference.line(x)))


def test_what_stays_does_so_in_a_compiled_network_too(x):
    """A layer that torch.fx cannot follow, in a container of PyTorch's into which it does not look."""

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


# Gain


def test_gain_is_corrected_in_front_of_calls():
    class Gains(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
            self.down, self.skip = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1)
            self.act, self.head, self.out = nn.ReLU(), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x):
            x = F.relu(self.norm(self.conv(x)))
            x = F.relu(self.down(x))
            y = self.skip(x)
            x = (y.relu() + y).mean((2, 3))
            x = self.act(self.head(x)).clamp(min=0)
            return self.out(x)

    model, reference, report = rewritten(Gains, 0.5, correct_gain=True)
    factor = 1 / math.sqrt(1.25)
    assert [name for name, _ in report.rescaled] == ["head", "down"]
    assert [each for _, each in report.rescaled] == pytest.approx([factor] * 2)
    assert report.not_rescaled == (
        ("relu()", "the output of skip also goes elsewhere"),
        ("clamp()", "ReLU comes before it, no linear or convolution layer"),
    )
    for key, value in model.state_dict().items():
        scaled = key in ("head.weight", "down.weight")
        torch.testing.assert_close(value, reference.state_dict()[key] * (factor if scaled else 1))


# Any network


@st.composite
def chains(draw):
    """Words for the steps of a random network, nested in modules of their own."""
    step = st.sampled_from(["relu", "relu_", "clamp", "F", "linear", "module", "bounded", "add"])
    return draw(st.lists(st.lists(step, min_size=1, max_size=5), min_size=1, max_size=4))


class Chain(nn.Module):
    def __init__(self, words, inner):
        super().__init__()
        self.words, self.inner, self.line, self.act = words, inner, nn.Linear(6, 6), nn.ReLU()

    def forward(self, x):
        x = x if self.inner is None else self.inner(x)
        for word in self.words:
            x = self.step(word, x)
        return x

    def step(self, word, x):
        if word == "relu":
            return x.relu()
        if word == "relu_":
            return x.clone().relu_()
        if word == "clamp":
            return torch.clamp(x, min=0)
        if word == "F":
            return F.relu(x)
        if word == "module":
            return self.act(x)
        if word == "linear":
            return self.line(x)
        return x.clamp(0, 1) if word == "bounded" else x + x.tanh()

    def by_hand(self, x):
        x = x if self.inner is None else self.inner.by_hand(x)
        for word in self.words:
            x = leaky(x) if word in ("relu", "relu_", "clamp", "F", "module") else self.step(word, x)
        return x


@settings(max_examples=25, deadline=None)
@given(chains())
def test_any_network(words):
    torch.manual_seed(0)
    model = None
    for each in words:
        model = Chain(each, model)
    reference = copy.deepcopy(model)
    report = replace_relu(model, SLOPE)
    calls = sum(number for _, _, number in report.rewritten)
    assert calls == sum(word in ("relu", "relu_", "clamp", "F") for each in words for word in each)
    x = torch.randn(3, 6, requires_grad=True)
    expected = reference.by_hand(x)
    torch.testing.assert_close(model(x), expected)
    one, two = (torch.autograd.grad((y * y).sum(), x)[0] for y in (model(x), expected))
    torch.testing.assert_close(one, two)
