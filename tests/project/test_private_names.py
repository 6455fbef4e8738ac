"""The check that no file but one uses a private name of PyTorch: tools/private_names.py."""

import importlib.util
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def check():
    spec = importlib.util.spec_from_file_location("private_names", ROOT / "tools" / "private_names.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("import torch\ntorch._C.DisableTorchFunction()", "torch._C.DisableTorchFunction"),
        ("import torch as t\nt._C", "torch._C"),
        ("from torch._C import DisableTorchFunction", "torch._C.DisableTorchFunction"),
        ("from torch.utils import _pytree", "torch.utils._pytree"),
        ("import torch.utils._pytree as tree", "torch.utils._pytree"),
        (
            "from torch.autograd import forward_ad\nforward_ad._current_level",
            "torch.autograd.forward_ad._current_level",
        ),
        ("from torch import nn\nnn.Module._call_impl", "torch.nn.Module._call_impl"),
        ("def f(module):\n    return module._modules", "._modules"),
        ("class A:\n    def f(self):\n        return self._parameters", "._parameters"),
        ("x.untyped_storage()._cdata", "._cdata"),
        ('getattr(module, "_forward_hooks")', "'_forward_hooks'"),
        ("class A:\n    def _load_from_state_dict(self): ...", "def _load_from_state_dict"),
        ("import sys\nsys._getframe(1)", "sys._getframe"),
        ("from inspect import currentframe", "inspect.currentframe"),
        ('"/libgomp" in line', "'/libgomp'"),
    ],
)
def test_private_names_are_found(check, source, what, tmp_path, capsys):
    file = tmp_path / "module.py"
    file.write_text(source)
    assert check.main([str(file)]) == 1
    assert f"{what} is private to " in capsys.readouterr().out


@pytest.mark.parametrize(
    "source",
    [
        '"""What `_modules` holds."""',
        "def _version(): ...",
        "class A:\n    def f(self):\n        return self._original",
        "import torch\ntorch.nn.Module.__call__.__code__",
        "from leakyrelu import _core\n_core.__file__",
    ],
)
def test_names_of_our_own_and_public_ones_pass(check, source, tmp_path, capsys):
    file = tmp_path / "module.py"
    file.write_text(source)
    assert check.main([str(file)]) == 0
    assert capsys.readouterr().out == "no private name of PyTorch\n"
