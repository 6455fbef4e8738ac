"""The census of a PyTorch model: watch, diagnose, programs of TorchScript and torch.export."""

__all__: list[str] = []
