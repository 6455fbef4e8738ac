"""What each private name of PyTorch is taken to do, on the version at hand. Small, so that it can run on any."""

import contextlib
import subprocess
import sys
import threading

import pytest
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx
from torch.overrides import TorchFunctionMode
from torch.utils.flop_counter import FlopCounterMode

from leakyrelu.torch import _compat


class _Mode(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.seen = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.seen.append(func)
        return func(*args, **(kwargs or {}))


def test_function_modes_are_counted_from_the_outermost():
    assert _compat.count_function_modes() == 0
    with _Mode() as outer, _Mode() as inner:
        assert _compat.count_function_modes() == 2
        assert [_compat.function_mode(k) for k in range(2)] == [outer, inner]
        counts = []
        thread = threading.Thread(target=lambda: counts.append(_compat.count_function_modes()))
        thread.start()
        thread.join()
        assert counts == [0]  # those of this thread alone


def test_leaving_and_entering_a_mode_moves_it_off_the_stack_and_back():
    mode = _Mode()
    with mode:
        mode.__exit__(None, None, None)
        assert _compat.count_function_modes() == 0
        mode.__enter__()
        assert _compat.function_mode(0) is mode


def test_no_mode_sees_what_is_called_while_functions_are_disabled():
    x = torch.ones(1)
    with _Mode() as mode:
        with _compat.DisableTorchFunction():
            torch.relu(x)
        assert mode.seen == []
        torch.relu(x)
        assert mode.seen == [torch.relu]


def test_dispatch_modes_are_counted():
    assert _compat.count_dispatch_modes() == 0
    with FlopCounterMode(display=False):
        assert _compat.count_dispatch_modes() == 1
        assert not _compat.writes_graph()


def test_a_graph_that_is_written_down_is_noticed():
    answers = []

    def function(x):
        answers.append((_compat.writes_graph(), _compat.count_dispatch_modes() > 0))
        return x + 1

    make_fx(function)(torch.ones(2))
    assert answers == [(True, True)]
    assert not _compat.writes_graph()


def test_transforms_are_noticed():
    answers = []

    def function(x):
        answers.append(_compat.are_transforms_active())
        return (x * x).sum()

    function(torch.ones(2))
    torch.func.grad(function)(torch.ones(2))
    torch.vmap(function)(torch.ones(2, 2))
    assert answers == [False, True, True]


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_tracing_by_torchscript_is_noticed():
    answers = []

    def function(x):
        answers.append(_compat.is_tracing())
        return x + 1

    function(torch.ones(1))
    torch.jit.trace(function, torch.ones(1), check_trace=False)
    assert answers == [False, True]
    assert not _compat.is_tracing()


def test_a_batched_gradient_is_distinguished_from_a_plain_one():
    answers = []

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            answers.append(_compat.is_batched_gradient(grad))
            return grad * 2

    x = torch.ones(2, requires_grad=True)
    torch.autograd.grad(Function.apply(x), x, torch.eye(2), is_grads_batched=True)
    torch.autograd.grad(Function.apply(x), x, torch.ones(2))
    assert answers == [True, False]


def test_fast_leaky_relu_is_pytorchs():
    x = torch.randn(7, requires_grad=True)
    torch.testing.assert_close(_compat.fast_leaky_relu(x, 0.3), nn.functional.leaky_relu(x, 0.3), rtol=0, atol=0)


def test_forward_mode_is_noticed():
    assert not _compat.in_forward_mode()
    with torch.autograd.forward_ad.dual_level():
        assert _compat.in_forward_mode()


def test_a_backward_pass_is_noticed_on_its_thread():
    answers = []
    x = torch.ones(2, requires_grad=True)
    y = x * 2
    y.register_hook(lambda _: answers.append(_compat.in_backward_pass()))
    y.sum().backward()
    assert answers == [True]
    assert not _compat.in_backward_pass()


def test_the_state_of_autograd_differs_within_a_function():
    states = {}

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            with torch.enable_grad():
                states["forward"] = _compat.autograd_state()
            return x * 2

        @staticmethod
        def backward(ctx, grad):
            states["backward"] = _compat.autograd_state()
            return grad * 2

    outside = _compat.autograd_state()
    for context in (torch.no_grad, torch.enable_grad, torch.inference_mode):
        with context():
            assert _compat.autograd_state() == outside
    Function.apply(torch.ones(2, requires_grad=True)).sum().backward()
    assert states["forward"] != outside
    assert states["backward"] != outside
    with torch.inference_mode():  # where there is nothing to see
        Function.apply(torch.ones(2))
    assert states["forward"] == outside


def test_apply_without_its_python_part_has_the_gradient():
    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, factor):
            ctx.factor = factor
            return x * factor

        @staticmethod
        def backward(ctx, grad):
            return grad * ctx.factor, None

    x = torch.ones(2, requires_grad=True)
    _compat.apply_of(Function)(x, 3.0).sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]


def test_views_are_known():
    x = torch.ones(2, 2)
    assert [_compat.is_view(t) for t in (x, x[0], x.t(), x.detach(), x.clone())] == [False, True, True, False, False]


def test_sparse_parts_are_those_that_the_tensor_holds():
    x = torch.sparse_coo_tensor([[0, 0]], [1.0, 2.0], (3,), check_invariants=True)
    indices, values = _compat.sparse_parts(x)
    assert not x.is_coalesced()
    assert (indices.tolist(), values.tolist()) == ([[0, 0]], [1.0, 2.0])


def test_a_storage_is_one_object_however_many_tensors_share_it():
    x = torch.ones(4)
    assert x.untyped_storage() is x.view(2, 2).untyped_storage()
    assert {x.untyped_storage(): 1}[x[1:].untyped_storage()] == 1
    assert x.untyped_storage() != x.clone().untyped_storage()


def test_every_kind_of_hook_is_counted():
    layer = nn.Linear(1, 1)
    assert (_compat.count_hooks(layer), _compat.has_forward_hooks(layer)) == (0, False)
    layer.register_full_backward_hook(lambda *_: None)
    layer.register_full_backward_pre_hook(lambda *_: None)
    assert (_compat.count_hooks(layer), _compat.has_forward_hooks(layer)) == (2, False)
    layer.register_forward_hook(lambda *_: None)
    layer.register_forward_pre_hook(lambda *_: None)
    assert (_compat.count_hooks(layer), _compat.has_forward_hooks(layer)) == (4, True)


def test_a_module_with_isolated_state_runs_on_copies_and_without_hooks():
    norm = nn.BatchNorm1d(2)
    calls = []
    norm.register_forward_hook(lambda *_: calls.append(1))
    attributes, mean = dict(vars(norm)), norm.running_mean
    _compat.isolate_state(norm, lambda value: value.clone() if type(value) is torch.Tensor else value)
    norm(torch.randn(4, 2) + 3)
    assert calls == []
    assert mean.tolist() == [0.0, 0.0]
    assert norm.running_mean.tolist() != [0.0, 0.0]
    vars(norm).update(attributes)
    assert norm.running_mean is mean


def test_shared_parameters_are_replaced_in_both():
    a, b = nn.PReLU(), nn.PReLU()
    _compat.share_parameters(a, b)
    b.weight = nn.Parameter(torch.ones(1))
    assert a.weight is b.weight


def test_shared_state_loads_as_its_owner_does():
    class Around(_compat.SharedState):
        def __init__(self, owner):
            super().__init__()
            object.__setattr__(self, "owner", owner)
            self.share_state(owner)

        def state_owner(self):
            return self.owner

    norm = nn.BatchNorm1d(2)
    around = Around(norm)
    assert list(around.state_dict()) == list(norm.state_dict())
    old = {key: value + 1 for key, value in norm.state_dict().items() if key != "num_batches_tracked"}
    around.load_state_dict(old)  # without a version, and without the counter, as before PyTorch 0.4.1
    assert norm.running_mean.tolist() == [1.0, 1.0]


def test_a_compiled_module_is_noticed():
    layer = nn.ReLU()
    assert not _compat.is_compiled(layer)
    assert _compat.is_compiled(torch.compile(layer, backend="eager"))
    layer.compile(backend="eager")
    assert _compat.is_compiled(layer)


def test_symbolic_tracing_is_noticed():
    answers = []

    class Model(nn.Module):
        def forward(self, x):
            answers.append(_compat.is_fx_symbolic_tracing())
            return x + 1

    model = Model()
    model(torch.ones(1))
    torch.fx.symbolic_trace(model)
    assert answers == [False, True]


def test_modes_and_tensors_have_the_classes_that_are_looked_for():
    with torch.device("meta"):
        assert type(_compat.function_mode(0)) is _compat.DeviceContext
    with contextlib.closing(_fake_tensors()) as fakes:
        assert type(next(fakes)) is _compat.FakeTensor


def _fake_tensors():
    seen = []
    torch.export.export(_Recorder(seen), (torch.ones(2),))
    yield from seen


class _Recorder(nn.Module):
    def __init__(self, seen):
        super().__init__()
        self.operator = torch.library.custom_op("leakyrelu_test::record", _record, mutates_args=())
        self.operator.register_fake(lambda x: (seen.append(x), torch.empty_like(x))[1])

    def forward(self, x):
        return self.operator(x)


def _record(x: torch.Tensor) -> torch.Tensor:
    return x.clone()


def test_tree_leaves_knows_containers():
    assert _compat.tree_leaves({"a": (1, [2]), "b": 3}) == [1, 2, 3]


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_graph_of_torchscript_runs_on_its_program():
    program = torch.jit.script(nn.Sequential(nn.Linear(2, 2), nn.ReLU()))
    run = _compat.script_function(program, program.inlined_graph)
    x = torch.randn(3, 2)
    torch.testing.assert_close(run(x), program(x), rtol=0, atol=0)


def test_records_of_an_archive_are_read_as_pytorch_reads_them(tmp_path):
    torch.save({"weight": torch.arange(3.0)}, tmp_path / "weights.pt")
    reader = _compat.ArchiveReader(str(tmp_path / "weights.pt"))
    assert {"data.pkl", "data/0"} <= set(reader.get_all_records())
    assert bytes(reader.get_record("data/0")) == torch.arange(3.0).numpy().tobytes()


def test_frames_are_those_of_the_callers():
    def inner():
        return _compat.call_frame(), _compat.call_frame(1)

    own, outer = inner()
    assert own.f_code.co_name == "inner"
    assert outer.f_code.co_name == "test_frames_are_those_of_the_callers"


def test_a_call_of_a_module_leaves_a_frame():
    codes = []

    class Model(nn.Module):
        def forward(self):
            frame = _compat.call_frame()
            while frame is not None:
                codes.append(frame.f_code)
                frame = frame.f_back

    Model()()
    assert nn.Module.__call__.__code__ in codes


def test_the_openmp_library_is_one_that_is_loaded():
    path = _compat.openmp_library()
    assert path is None or "libgomp" in path


def test_other_versions_are_named_where_a_name_is_missing():
    code = "import torch; del torch._C._len_torch_function_stack; import leakyrelu.torch"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert f"works with PyTorch 2.9 and newer (tested: 2.9.1, 2.13.0, 2.14.1), and this is {torch.__version__} (" in (
        done.stderr
    )
    assert "install another version, such as torch==2.13.0" in done.stderr
