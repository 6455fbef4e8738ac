"""Networks before and after `leakyrelu.torch.save_memory`: bytes kept for backward, and whole training steps.

    python -m benchmarks.torch_networks [--compile] [--rounds N]

Every contestant is a copy of the same network, in the same process, and they take turns: PyTorch with its activations
in place (what networks of this kind are shipped with) and apart, the network after `save_memory`, PyTorch with
`torch.utils.checkpoint` around every convolution block, and, if asked for, `torch.compile`, which takes minutes.
"""

from __future__ import annotations

import argparse
import copy
import importlib
import itertools
import json
import pathlib
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from benchmarks.machine import describe
from leakyrelu.torch import save_memory

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS = pathlib.Path(__file__).parent / "results"
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


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "chain 2-D, batch norm": (lambda: chain(2), (8, 1, 128, 128)),
    "chain 3-D, instance norm": (lambda: chain(3), (2, 1, 40, 40, 40)),
    "U-Net 3-D": (unet, (2, 1, 48, 48, 48)),
    "MLP, batch norm": (mlp, (1024, 256)),
}


def contestants(make: Callable[[], nn.Module], compiled: bool) -> dict[str, nn.Module]:
    torch.manual_seed(0)
    in_place = make()
    apart, ours, checked = (copy.deepcopy(in_place) for _ in range(3))
    for module in apart.modules():
        if isinstance(module, nn.LeakyReLU):
            module.inplace = False
    save_memory(ours)
    for parent in list(checked.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.Sequential and any(isinstance(each, nn.LeakyReLU) for each in child):
                setattr(parent, name, _Checkpointed(child))
    found = {"in place": in_place, "apart": apart, "save_memory": ours, "checkpoint": checked}
    if compiled:
        copied = copy.deepcopy(in_place)
        copied.compile()
        found["compile"] = copied
    return found


def bytes_kept(model: nn.Module, x: torch.Tensor) -> int:
    """Bytes that autograd keeps between forward and backward: each storage once, parameters and input apart."""
    kept: dict[int, torch.UntypedStorage] = {}
    own = {t.untyped_storage().data_ptr() for t in (x, *model.parameters(), *model.buffers())}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = model(x)
    del y
    return sum(storage.nbytes() for storage in kept.values())


def step(model: nn.Module, x: torch.Tensor) -> float:
    start = time.perf_counter()
    model.zero_grad()
    model(x).square().mean().backward()
    return time.perf_counter() - start


def measure(name: str, compiled: bool, rounds: int) -> dict[str, Any]:
    make, shape = NETWORKS[name]
    models = contestants(make, compiled)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    # What torch.compile keeps does not pass the hooks that are counted here.
    kept = {key: None if key == "compile" else bytes_kept(model, x) for key, model in models.items()}
    times: dict[str, list[float]] = {key: [] for key in models}
    for model in models.values():
        step(model, x)
    order = list(models)
    for round_ in range(rounds):
        for key in order[round_ % len(order) :] + order[: round_ % len(order)]:
            times[key].append(step(models[key], x))
    seconds = {key: statistics.median(values) for key, values in times.items()}
    return {"network": name, "input": shape, "bytes": kept, "seconds": seconds}


def table(results: list[dict[str, Any]]) -> str:
    lines = ["| network | input | | MiB kept | of in place | step, ms | of in place |", "|---|---|---|---|---|---|---|"]
    for result in results:
        kept, seconds = result["bytes"], result["seconds"]
        for key in kept:
            size = ("-", "-")
            if kept[key] is not None:
                size = (f"{kept[key] / 2**20:.1f}", f"{kept[key] / kept['in place']:.3f}")
            shape = "x".join(map(str, result["input"]))
            lines.append(
                f"| {result['network']} | {shape} | {key} | {size[0]} | {size[1]} | {seconds[key] * 1e3:.1f} "
                f"| {seconds[key] / seconds['in place']:.2f} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Networks before and after save_memory.")
    parser.add_argument("--compile", action="store_true", help="torch.compile too, which takes minutes")
    parser.add_argument("--rounds", type=int, default=7, help="training steps of each contestant")
    arguments = parser.parse_args()
    results = []
    for name in NETWORKS:
        results.append(measure(name, arguments.compile, arguments.rounds))
        print(table(results[-1:]), flush=True)
    machine = describe()
    machine["torch_threads"] = torch.get_num_threads()
    machine["command"] = " ".join(["python -m benchmarks.torch_networks", *sys.argv[1:]])
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "torch_networks.json").write_text(json.dumps({"machine": machine, "results": results}, indent=1) + "\n")
    head = f"{machine['processor']}, {machine['cpus']} CPUs, torch {torch.__version__}, float32, medians"
    (RESULTS / "torch_networks.md").write_text(f"{head}\n\n{table(results)}\n")


if __name__ == "__main__":
    main()
