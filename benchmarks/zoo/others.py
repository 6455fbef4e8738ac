"""Networks for volumes, tables and graphs: monai, dynamic-network-architectures, pytorch-tabnet, torch-geometric."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from benchmarks.zoo.network import Network, load, noise

if TYPE_CHECKING:
    from benchmarks.zoo.network import Batch

_CHANNELS = {"channels": (8, 16, 32), "strides": (2, 2)}
_SMALL = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2}
_MONAI: dict[str, tuple[str, dict[str, Any], tuple[int, ...]]] = {
    "UNet 2-D": ("UNet", {"spatial_dims": 2, "in_channels": 1, "out_channels": 2, **_CHANNELS}, (1, 64, 64)),
    "UNet 3-D": ("UNet", {**_SMALL, **_CHANNELS, "num_res_units": 2, "norm": "BATCH"}, (1, 16, 16, 16)),
    "UNet 3-D, ReLU": ("UNet", {**_SMALL, **_CHANNELS, "act": "RELU", "adn_ordering": "AN"}, (1, 16, 16, 16)),
    "BasicUNet": ("BasicUNet", {"features": (8, 8, 16, 32, 64, 8)}, (1, 32, 32, 32)),
    "BasicUNetPlusPlus": ("BasicUNetPlusPlus", {"features": (8, 8, 16, 32, 64, 8)}, (1, 32, 32, 32)),
    "AttentionUnet": ("AttentionUnet", {**_SMALL, **_CHANNELS}, (1, 16, 16, 16)),
    "DynUNet": (
        "DynUNet",
        {**_SMALL, "kernel_size": [3] * 4, "strides": [1, 2, 2, 2], "upsample_kernel_size": [2] * 3}
        | {"filters": [8, 16, 32, 64], "res_block": True},
        (1, 16, 16, 16),
    ),
    "SegResNet": ("SegResNet", {}, (1, 16, 16, 16)),
    "SegResNetDS": ("SegResNetDS", {"init_filters": 8, "norm": "instance"}, (1, 16, 16, 16)),
    "VNet": ("VNet", {"act": ("relu", {"inplace": True})}, (1, 16, 16, 16)),
    "HighResNet": ("HighResNet", {}, (1, 12, 12, 12)),
    "DenseNet121 3-D": ("DenseNet121", _SMALL, (1, 32, 32, 32)),
    "SEResNet50 2-D": ("SEResNet50", {"spatial_dims": 2, "in_channels": 3, "num_classes": 2}, (3, 64, 64)),
    "UNETR": (
        "UNETR",
        {"in_channels": 1, "out_channels": 2, "img_size": 32, "hidden_size": 96, "mlp_dim": 96} | {"num_heads": 4},
        (1, 32, 32, 32),
    ),
    "Classifier": ("Classifier", {"in_shape": (1, 32, 32), "classes": 2, **_CHANNELS, "act": "RELU"}, (1, 32, 32)),
    "Regressor": ("Regressor", {"in_shape": (1, 32, 32), "out_shape": (1,), **_CHANNELS}, (1, 32, 32)),
    "RegUNet": ("RegUNet", {"spatial_dims": 2, "in_channels": 1, "num_channel_initial": 8, "depth": 2}, (1, 32, 32)),
    "resnet10 3-D": ("resnet10", {"spatial_dims": 3, "n_input_channels": 1, "num_classes": 2}, (1, 16, 16, 16)),
    "Quicknat": ("Quicknat", {"num_filters": 8}, (1, 64, 64)),
    "PatchDiscriminator": ("PatchDiscriminator", {"spatial_dims": 2, "channels": 8, "in_channels": 1}, (1, 64, 64)),
    "VQVAE": (
        "VQVAE",
        {"spatial_dims": 2, "in_channels": 1, "out_channels": 1, "channels": (8, 8, 16)}
        | {"num_res_channels": (8, 8, 16), "num_embeddings": 16, "embedding_dim": 8},
        (1, 32, 32),
    ),
    "FullyConnectedNet": (
        "FullyConnectedNet",
        {"in_channels": 8, "out_channels": 2, "hidden_channels": (32, 16)},
        (8,),
    ),
}

_STAGES = {"n_stages": 4, "features_per_stage": [8, 16, 32, 64], "kernel_sizes": 3, "strides": [1, 2, 2, 2]}
# What nnU-Net plans: as many convolutions in each stage of the decoder as in the encoder.
_PLANNED = {"n_conv_per_stage_decoder": 2, "n_stages": 5, "features_per_stage": [32, 64, 128, 256, 320]}
_PLANNED["strides"] = [1, 2, 2, 2, 2]
_UNETS: dict[str, tuple[str, type[nn.Module], str, type[nn.Module], dict[str, Any]]] = {
    "PlainConvUNet 3-D, Leaky ReLU": ("PlainConvUNet", nn.Conv3d, "InstanceNorm3d", nn.LeakyReLU, {}),
    "PlainConvUNet 2-D, ReLU": ("PlainConvUNet", nn.Conv2d, "InstanceNorm2d", nn.ReLU, {}),
    "PlainConvUNet 2-D, batch norm": ("PlainConvUNet", nn.Conv2d, "BatchNorm2d", nn.LeakyReLU, {}),
    "PlainConvUNet 3-D, as planned": ("PlainConvUNet", nn.Conv3d, "InstanceNorm3d", nn.LeakyReLU, _PLANNED),
    "PlainConvUNet 2-D, as planned": ("PlainConvUNet", nn.Conv2d, "InstanceNorm2d", nn.LeakyReLU, _PLANNED),
    "ResidualEncoderUNet 3-D": ("ResidualEncoderUNet", nn.Conv3d, "InstanceNorm3d", nn.LeakyReLU, {}),
    "ResidualEncoderUNet 2-D, ReLU": ("ResidualEncoderUNet", nn.Conv2d, "BatchNorm2d", nn.ReLU, {}),
    "ResidualUNet 3-D": ("ResidualUNet", nn.Conv3d, "InstanceNorm3d", nn.LeakyReLU, {}),
}


def _monai(name: str, options: dict[str, Any]) -> nn.Module:
    model: nn.Module = load("monai.networks.nets", name)(**options)
    return model


def _unet(name: str, conv: type[nn.Module], norm: str, act: type[nn.Module], options: dict[str, Any]) -> nn.Module:
    counts = "n_conv_per_stage" if name == "PlainConvUNet" else "n_blocks_per_stage"
    model: nn.Module = load("dynamic_network_architectures.architectures.unet", name)(
        input_channels=1,
        conv_op=conv,
        num_classes=2,
        conv_bias=True,
        norm_op=getattr(nn, norm),
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=act,
        nonlin_kwargs={"inplace": True},
        **{**_STAGES, counts: 2, "n_conv_per_stage_decoder": 1, **options},
    )
    return model


class _OnGraph(nn.Module):
    """A network on graphs, whose edges are part of the network here: a ring with chords."""

    edges: torch.Tensor

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        super().__init__()
        self.network = load("torch_geometric.nn.models", name)(8, 16, 3, 4, **options)
        nodes = torch.arange(24)
        self.register_buffer("edges", torch.stack([nodes.repeat(2), torch.cat([nodes + 1, nodes + 5]) % 24]))

    def forward(self, x: torch.Tensor) -> Any:
        return self.network(x, self.edges)


def _nodes(size: int) -> Batch:
    return torch.randn(24, 8, generator=torch.Generator().manual_seed(size))


def _tabnet() -> nn.Module:
    return load("pytorch_tabnet.tab_network", "TabNet")(8, 2, group_attention_matrix=torch.eye(8))  # type: ignore[no-any-return]


NETWORKS: dict[str, Network] = {
    **{
        f"monai/{title}": Network(partial(_monai, name, options), noise(*shape))
        for title, (name, options, shape) in _MONAI.items()
    },
    **{
        f"dynamic-network-architectures/{title}": Network(
            partial(_unet, *options), noise(1, 32, 32, 32) if options[1] is nn.Conv3d else noise(1, 64, 64)
        )
        for title, options in _UNETS.items()
    },
    **{
        f"torch-geometric/{name}": Network(partial(_OnGraph, name, options), _nodes)
        for name, options in (
            ("GCN", {}),
            ("GraphSAGE", {"norm": "batch_norm"}),
            ("GIN", {"norm": "layer_norm"}),
            ("GAT", {"heads": 2}),
            ("EdgeCNN", {"jk": "cat"}),
        )
    },
    "pytorch-tabnet/TabNet": Network(_tabnet, noise(8)),
}
