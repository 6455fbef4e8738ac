"""The census of a PyTorch model: watch, diagnose, programs of TorchScript and torch.export."""

from leakyrelu.torch.diagnosis.model_report import NoRectifierError, diagnose
from leakyrelu.torch.diagnosis.watcher import watch

__all__ = ["NoRectifierError", "diagnose", "watch"]
