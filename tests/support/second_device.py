"""A second device in name only: tensors of the CPU that may not meet those of the CPU, as those of a GPU may not."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

DEVICE = torch.device("cuda", 0)
_INDEXED = (Tensor.__getitem__, Tensor.__setitem__, Tensor.index_put_)  # indices may be on the CPU


def _tensors(value):
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for each in value:
            yield from _tensors(each)


class SecondDevice(TorchFunctionMode):
    """Mode in which parameters, the buffers of a model, and what is computed of them are on the second device."""

    def __init__(self, model):
        super().__init__()
        self.there = {id(buffer): buffer for buffer in model.buffers()}

    def _is_there(self, tensor):
        return isinstance(tensor, nn.Parameter) or id(tensor) in self.there

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is Tensor.device.__get__:
            return DEVICE if self._is_there(args[0]) else torch.device("cpu")
        if function in (Tensor.to, Tensor.cpu):
            return self._moved(function, args, kwargs)
        operands = [each for each in _tensors([args, list(kwargs.values())]) if each.ndim]
        if function in _INDEXED and self._is_there(args[0]):
            operands = [args[0], *_tensors(args[2:])]
        there = {self._is_there(each) for each in operands}
        assert len(there) < 2, f"{function.__name__} of tensors on two devices"
        device = kwargs.get("device")
        if there == {True} or (device is not None and torch.device(device) == DEVICE):
            kwargs = {name: value for name, value in kwargs.items() if name != "device"}
            return self._put(function(*args, **kwargs))
        return function(*args, **kwargs)

    def _put(self, result):
        for each in _tensors(result):
            self.there[id(each)] = each
        return result

    def _moved(self, function, args, kwargs):
        tensor, *rest = args
        there = self._is_there(tensor)
        if function is Tensor.cpu:
            return tensor.detach().clone()
        if "device" in kwargs:
            rest.append(kwargs.pop("device"))
        for each in rest:
            if isinstance(each, Tensor):
                there = self._is_there(each)
            elif isinstance(each, str | torch.device):
                there = torch.device(each) == DEVICE
        rest = [each.dtype if isinstance(each, Tensor) else each for each in rest]
        result = tensor.detach().clone()
        for each in rest:
            if isinstance(each, torch.dtype):
                result = result.to(each)
        return self._put(result) if there else result
