"""Rewriting a model in place: replace_relu, save_memory, restore."""

from leakyrelu.torch.rewrite.memory_saving import Saving, save_memory
from leakyrelu.torch.rewrite.module_exchange import restore
from leakyrelu.torch.rewrite.relu_replacement import Replacement, replace_relu

__all__ = ["Replacement", "Saving", "replace_relu", "restore", "save_memory"]
