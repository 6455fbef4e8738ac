"""Networks for text, sound and patches: transformers and vit-pytorch, in small sizes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.zoo.network import Network, load, noise, with_relu

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from benchmarks.zoo.network import Batch

_WIDE = {"d_model": 32, "encoder_layers": 2, "decoder_layers": 2, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
_WIDE |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "vocab_size": 100, "max_position_embeddings": 64}
_BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
_TEXT: dict[str, dict[str, Any]] = {
    "OPT": {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 64, "vocab_size": 100}
    | {"word_embed_proj_dim": 32, "max_position_embeddings": 64},
    "Bert": {**_BERT, "vocab_size": 100, "hidden_act": "relu"},
    "DistilBert": {"dim": 32, "n_layers": 2, "n_heads": 4, "hidden_dim": 64, "vocab_size": 100, "activation": "relu"},
    "SqueezeBert": {**_BERT, "vocab_size": 100, "hidden_act": "relu", "embedding_size": 32},
    "MobileBert": {**_BERT, "vocab_size": 100, "embedding_size": 16, "intra_bottleneck_size": 16},
    "XGLM": {"d_model": 32, "num_layers": 2, "attention_heads": 4, "ffn_dim": 64, "vocab_size": 100}
    | {"activation_function": "relu"},
    "GPT2": {"n_embd": 32, "n_layer": 2, "n_head": 4, "vocab_size": 100, "activation_function": "relu"},
    "T5Encoder": {"d_model": 32, "d_ff": 64, "d_kv": 8, "num_layers": 2, "num_heads": 4, "vocab_size": 100},
    "Bart": {**_WIDE, "activation_function": "relu"},
    "Nemotron": {**_BERT, "vocab_size": 100, "num_key_value_heads": 4, "pad_token_id": None},
    "Funnel": {"d_model": 32, "d_inner": 64, "n_head": 4, "d_head": 8, "block_sizes": [1, 1], "vocab_size": 100}
    | {"hidden_act": "relu"},
}
_IMAGES: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "ResNet": ({"embedding_size": 16, "hidden_sizes": [16, 32, 64, 64], "depths": [1, 1, 1, 1]}, (3, 64, 64)),
    "RegNet": ({"embedding_size": 16, "hidden_sizes": [16, 32, 64, 64], "depths": [1, 1, 1, 1]}, (3, 64, 64)),
    "MobileNetV1": ({"depth_multiplier": 0.25}, (3, 64, 64)),
    "MobileNetV2": ({"depth_multiplier": 0.5}, (3, 64, 64)),
    "Bit": ({"embedding_size": 32, "hidden_sizes": [128, 128, 128, 128], "depths": [1, 1, 1, 1]}, (3, 64, 64)),
    "ViT": ({**_BERT, "image_size": 32, "patch_size": 8, "hidden_act": "relu"}, (3, 32, 32)),
    "Swin": ({"image_size": 32, "patch_size": 4, "embed_dim": 12, "depths": [1, 1], "num_heads": [2, 4]}
             | {"window_size": 4, "hidden_act": "relu"}, (3, 32, 32)),
    "Segformer": ({"hidden_sizes": [8, 16, 32, 64], "hidden_act": "relu"}, (3, 64, 64)),
    "Pvt": ({"image_size": 64, "hidden_act": "relu"}, (3, 64, 64)),
    "PoolFormer": ({"hidden_sizes": [8, 16, 32, 64], "hidden_act": "relu"}, (3, 64, 64)),
    "ConvNext": ({"hidden_sizes": [8, 16, 32, 64], "depths": [1, 1, 1, 1], "hidden_act": "relu"}, (3, 64, 64)),
    "SwiftFormer": ({"image_size": 64, "embed_dims": [8, 16, 32, 64], "hidden_act": "relu"}, (3, 64, 64)),
    "MobileViTV2": ({"hidden_act": "relu", "width_multiplier": 0.5}, (3, 64, 64)),
    "FocalNet": ({"image_size": 64, "embed_dim": 12, "hidden_act": "relu"}, (3, 64, 64)),
    "HGNetV2": ({}, (3, 64, 64)),
    "TextNet": ({}, (3, 64, 64)),
    "SuperPoint": ({}, (3, 64, 64)),
    "VitDet": ({**_BERT, "image_size": 32, "patch_size": 8, "hidden_act": "relu"}, (3, 32, 32)),
}  # fmt: skip
_CLASSES = {"HGNetV2": "HGNetV2Backbone", "SuperPoint": "SuperPointForKeypointDetection", "T5Encoder": "T5EncoderModel"}
_VIT = {"image_size": 32, "num_classes": 5}
_PATCHES: dict[str, tuple[str, dict[str, Any]]] = {
    "vit.ViT": ("ViT", {"patch_size": 8, "dim": 32, "depth": 2, "heads": 4, "mlp_dim": 64}),
    "simple_vit.SimpleViT": ("SimpleViT", {"patch_size": 8, "dim": 32, "depth": 2, "heads": 4, "mlp_dim": 64}),
    "deepvit.DeepViT": ("DeepViT", {"patch_size": 8, "dim": 32, "depth": 2, "heads": 4, "mlp_dim": 64}),
    "levit.LeViT": ("LeViT", {"dim": 32, "depth": 2, "heads": 2, "mlp_mult": 2, "image_size": 64, "stages": 2}),
    "cct.CCT": ("CCT", {"img_size": 32, "embedding_dim": 32, "num_layers": 2, "num_heads": 4, "mlp_ratio": 2.0}),
}


def _tokens(size: int) -> Batch:
    generator = torch.Generator().manual_seed(size)
    return {"input_ids": torch.randint(3, 100, (size, 16), generator=generator)}


def _pixels(shape: tuple[int, ...]) -> Callable[[int], Batch]:
    return lambda size: {"pixel_values": torch.rand(size, *shape, generator=torch.Generator().manual_seed(1))}


def _sound(size: int) -> Batch:
    return {"input_features": torch.randn(size, 40, 80, generator=torch.Generator().manual_seed(1)),
            "decoder_input_ids": torch.ones(size, 4, dtype=torch.int64)}  # fmt: skip


def _transformer(name: str, options: dict[str, Any]) -> nn.Module:
    config = load("transformers", f"{name.removesuffix('Encoder')}Config")(**options)
    model: nn.Module = load("transformers", _CLASSES.get(name, f"{name}Model"))(config)
    return model


def _patches(path: str, name: str, options: dict[str, Any]) -> nn.Module:
    size = {} if "img_size" in options else _VIT
    model: nn.Module = load(f"vit_pytorch.{path.partition('.')[0]}", name)(**{**size, "num_classes": 5, **options})
    return with_relu(model)


NETWORKS: dict[str, Network] = {
    **{
        f"transformers/{name}": Network(partial(_transformer, name, options), _tokens)
        for name, options in _TEXT.items()
    },
    **{
        f"transformers/{name}": Network(partial(_transformer, name, options), _pixels(shape))
        for name, (options, shape) in _IMAGES.items()
    },
    "transformers/Speech2Text": Network(
        partial(_transformer, "Speech2Text", {**_WIDE, "activation_function": "relu"}), _sound
    ),
    **{
        f"vit-pytorch/{path} with ReLU": Network(
            partial(_patches, path, name, options), noise(3, *[options.get("image_size", 32)] * 2)
        )
        for path, (name, options) in _PATCHES.items()
    },
}
