"""Parts ``chains``, ``unet``, ``mlp`` and ``losses``: networks before and after `leakyrelu.torch.save_memory`.

Every candidate is a copy of the same network, in the same process, and they take turns: PyTorch with its activations
in place (what networks of this kind are shipped with) and apart, `torch.utils.checkpoint` around every block of
convolution, normalization and activation, `torch.compile`, and the network after `save_memory`.
"""

from __future__ import annotations

import copy
import importlib
import itertools
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from benchmarks.harness import round_robin
from benchmarks.storage import Timing
from leakyrelu.torch import activation_memory, save_memory

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.training.measurement import Measurement

PEER = "dynamic-network-architectures"


class _Checkpointed(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor) -> Any:
        return checkpoint(self.inner, x, use_reentrant=False)


def chain(axes: int) -> nn.Module:
    """Four blocks of convolution, normalization and Leaky ReLU."""
    conv: Any = {2: nn.Conv2d, 3: nn.Conv3d}[axes]
    norm: Any = {2: nn.BatchNorm2d, 3: nn.InstanceNorm3d}[axes]
    widths = [1, 32, 32, 32, 32]
    return nn.Sequential(
        *(
            nn.Sequential(conv(a, b, 3, padding=1), norm(b, affine=True), nn.LeakyReLU(0.01, inplace=True))
            for a, b in itertools.pairwise(widths)
        )
    )


def mlp() -> nn.Module:
    """Linear layers, batch normalization and Leaky ReLU."""
    widths = [256, 1024, 1024, 1024, 64]
    return nn.Sequential(
        *(
            nn.Sequential(nn.Linear(a, b), nn.BatchNorm1d(b), nn.LeakyReLU(0.01, inplace=True))
            for a, b in itertools.pairwise(widths)
        )
    )


def unet() -> nn.Module:
    """Build the plain-convolution U-Net of nnU-Net, with four stages."""
    try:
        module: Any = importlib.import_module("dynamic_network_architectures.architectures.unet")
    except ModuleNotFoundError as error:
        raise SystemExit(
            f"{error.name} is missing: pip install --no-deps {PEER} timm (with their dependencies, torchvision would "
            "replace this build of torch)"
        ) from error
    return module.PlainConvUNet(  # type: ignore[no-any-return]
        input_channels=1,
        n_stages=4,
        features_per_stage=[32, 64, 128, 256],
        conv_op=nn.Conv3d,
        kernel_sizes=3,
        strides=[1, 2, 2, 2],
        n_conv_per_stage=2,
        num_classes=2,
        n_conv_per_stage_decoder=2,
        conv_bias=True,
        norm_op=nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True},
    )


NETWORKS: dict[str, dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]]] = {
    "chains": {
        "chain 2-D, batch norm": (lambda: chain(2), (8, 1, 128, 128)),
        "chain 3-D, instance norm": (lambda: chain(3), (2, 1, 40, 40, 40)),
    },
    "unet": {"U-Net 3-D, instance norm": (unet, (2, 1, 48, 48, 48))},
    "mlp": {"MLP, batch norm": (mlp, (1024, 256))},
}
IN_PLACE = "PyTorch in place"


def _apart(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, nn.LeakyReLU):
            module.inplace = False


def _checkpointed(model: nn.Module) -> None:
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Sequential and any(isinstance(each, nn.LeakyReLU) for each in child):
                setattr(parent, name, _Checkpointed(child))


def candidates(make: Callable[[], nn.Module], compiled: bool) -> dict[str, nn.Module]:
    torch.manual_seed(0)
    in_place = make()
    found = {IN_PLACE: in_place}
    changes: dict[str, Callable[[nn.Module], Any]] = {
        "PyTorch": _apart,
        "checkpoint": _checkpointed,
        "leakyrelu": save_memory,
    }
    for name, change in changes.items():
        found[name] = copy.deepcopy(in_place)
        change(found[name])
    if compiled:
        for name, of in (("torch.compile", in_place), ("leakyrelu, torch.compile", found["leakyrelu"])):
            found[name] = copy.deepcopy(of)
            found[name].compile(dynamic=False)
    return found


def step(model: nn.Module, x: torch.Tensor) -> float:
    start = time.perf_counter()
    model.zero_grad()
    model(x).square().mean().backward()
    return time.perf_counter() - start


def measure(part: str, rounds: int, compiled: bool) -> list[Measurement]:
    measured: list[Measurement] = []
    for work, (make, shape) in NETWORKS[part].items():
        models = candidates(make, compiled)
        x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        notes = dict.fromkeys(models, "")
        for name, model in models.items():
            try:
                step(model, x)  # compiles
            except Exception as error:  # a compiler may raise anything
                notes[name] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        running = {name: model for name, model in models.items() if not notes[name]}
        kept = {name: activation_memory(model, x).bytes for name, model in running.items()}
        for model in running.values():
            step(model, x)
        times: dict[str, list[float]] = {name: [] for name in models}
        for name in round_robin(running, rounds):
            times[name].append(step(running[name], x))
        for name in models:
            row: Measurement = {
                "work": work,
                "size": "x".join(map(str, shape)),
                "name": name,
                "rounds": len(times[name]),
                "seconds": Timing.of(times[name]) if times[name] else None,
                "bytes": kept.get(name),
                "note": notes[name],
            }
            measured.append(row)
        base = min(times[IN_PLACE])
        summary = ", ".join(f"{name} {min(times[name]) / base:.2f}" for name in running)
        print(f"  {work}: in place {base * 1e3:.1f} ms; {summary}", flush=True)
    return measured


def losses(steps: int = 20) -> dict[str, float]:
    """Largest relative difference of the U-Net's losses in training, before and after save_memory, by dtype."""
    found: dict[str, float] = {}
    for dtype in (torch.float32, torch.float64):
        torch.manual_seed(0)
        plain = unet().to(dtype)
        ours = copy.deepcopy(plain)
        save_memory(ours)
        generator = torch.Generator().manual_seed(0)
        x = torch.randn(1, 1, 16, 16, 16, generator=generator, dtype=dtype)
        target = (x.roll(1, -1) > 0).long()[:, 0]
        pairs = zip(_train(plain, x, target, steps), _train(ours, x, target, steps), strict=True)
        found[str(dtype).removeprefix("torch.")] = max(abs(a - b) / abs(a) for a, b in pairs)
    return found


def _train(model: nn.Module, x: torch.Tensor, target: torch.Tensor, steps: int) -> list[float]:
    # nnU-Net's optimizer.
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.99, nesterov=True, weight_decay=3e-5)
    found = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), target)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        found.append(loss.item())
    return found
