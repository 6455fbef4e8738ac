"""One of two processes; started by tests/torch/normalization/test_distributed.py, which reads its output."""

import json
import sys

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from leakyrelu.torch import save_memory


def network(kind):
    norm = {"batch": nn.BatchNorm2d, "sync": nn.SyncBatchNorm, "instance": nn.InstanceNorm2d}[kind]
    options = {"affine": True} if kind == "instance" else {}
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3),
        norm(6, **options),
        nn.LeakyReLU(0.1),
        nn.Conv2d(6, 4, 3),
        norm(4, **options),
        nn.LeakyReLU(0.2, inplace=True),
        nn.Flatten(),
        nn.Linear(64, 3),
    ).double()


def data(step):
    generator = torch.Generator().manual_seed(step)
    return torch.randn(6, 2, 8, 8, generator=generator, dtype=torch.float64), torch.arange(6) % 3


def train(model, part):
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    losses = []
    for step in range(8):
        x, target = (t[part] for t in data(step))
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def main(rank, store, mode):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    part = slice(3 * rank, 3 * rank + 3)
    result = {}
    for kind in ("batch", "instance"):
        for saving in (False, True):
            model = network(kind)
            if saving:
                assert len(save_memory(model).joined) == 2
            if mode == "fsdp":
                from torch.distributed.device_mesh import init_device_mesh
                from torch.distributed.fsdp import fully_shard

                mesh = init_device_mesh("cpu", (2,))
                for layer in model:
                    if any(True for _ in layer.parameters()):
                        fully_shard(layer, mesh=mesh)
                fully_shard(model, mesh=mesh)
                wrapped = model
            else:
                wrapped = DistributedDataParallel(model)
            result[f"{kind} {saving}"] = train(wrapped, part)
    if mode == "ddp":
        model = network("sync")
        assert len(save_memory(model).joined) == 2
        result["sync"] = train(DistributedDataParallel(model), part)
        result["running"] = model[1].running_var.tolist()
        x = data(0)[0].requires_grad_()
        try:
            torch.autograd.grad(model(x).sum(), x, create_graph=True)
        except RuntimeError as error:
            result["second"] = str(error)
    dist.barrier()
    dist.destroy_process_group()
    print(json.dumps(result))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
