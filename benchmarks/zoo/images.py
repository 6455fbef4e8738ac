"""Networks for images of torchvision, pytorchcv, segmentation-models-pytorch and smaller libraries."""

from __future__ import annotations

import sys
import types
from functools import partial
from typing import Any

from torch import Tensor, nn

from benchmarks.zoo.network import Network, load, noise, with_relu

_TORCHVISION: dict[int, str] = {
    64: """
        alexnet densenet121 efficientnet_b0+relu googlenet mnasnet0_5 mobilenet_v2 mobilenet_v3_small convnext_tiny+relu
        regnet_x_400mf regnet_y_400mf resnet18 resnet50 resnext50_32x4d shufflenet_v2_x0_5 squeezenet1_0 squeezenet1_1
        swin_t+relu swin_v2_t+relu vgg11 vgg11_bn wide_resnet50_2 deeplabv3_mobilenet_v3_large fcn_resnet50
        lraspp_mobilenet_v3_large
    """,
    96: "inception_v3",
}
_TORCHVISION_VOLUMES = "r3d_18 mc3_18 r2plus1d_18"
_TORCHVISION_DETECTORS = "retinanet_resnet50_fpn fcos_resnet50_fpn ssdlite320_mobilenet_v3_large"

_PYTORCHCV: dict[int, str] = {
    32: """
        nin_cifar10 resnet20_cifar10 preresnet20_cifar10 densenet40_k12_cifar10 pyramidnet110_a48_cifar10
        resdropresnet20_cifar10 shakeshakeresnet20_2x16d_cifar10 diaresnet20_cifar10 diapreresnet20_cifar10
        rir_cifar10 ror3_56_cifar10 xdensenet40_2_k24_bc_cifar10 wrn16_10_cifar10
    """,
    64: """
        airnet50_1x64d_r2 bagnet9 bam_resnet18 cbam_resnet18 channelnet darts diracnet18v2 dla34
        drnc26 espnetv2_wd2 fbnet_cb fdmobilenet_wd4 fishnet99 ghostnet hardnet39ds hrnetv2_w18 ibn_resnet50
        igcv3_wd4 irevnet301 isqrtcovresnet18 menet108_8x1_g3 mixnet_s mnasnet_small
        mobilenet_wd4 mobilenetv2_wd4 mobilenetv3_small_w7d20 octresnet10_ad2 peleenet preresnet18 proxylessnas_cpu
        pyramidnet101_a360 regnetx002 regnety002 resnesta18 resnet18 resnetd50b revnet38 selecsls42b
        senet16 sepreresnet18 seresnet18 sharesnet18 shufflenet_g1_wd4 shufflenetv2_wd2 sknet50 sparsenet121
        spnasnet sqnxt23_w1 vovnet27s
    """,
    224: "dpn68 scnet50 squeezenet_v1_1 squeezeresnet_v1_1 vgg11 zfnet",
    299: "xception",
    96: "inceptionv3 bninception simplepose_resnet18_coco resattnet56 dicenet_wd5 condensenet74_c4_g4",
}

_SEGMENTATION = {
    "Unet": "resnet18",
    "UnetPlusPlus": "resnet18",
    "MAnet": "resnet18",
    "Linknet": "mobilenet_v2",
    "FPN": "resnet18",
    "PSPNet": "resnet18",
    "PAN": "resnet18",
    "DeepLabV3": "resnet18",
    "DeepLabV3Plus": "mobileone_s0",
    "UPerNet": "resnet18",
    "Segformer": "mit_b0",
}


def _torchvision(name: str) -> nn.Module:
    plain = name.removesuffix("+relu")
    options: dict[str, Any] = {"weights": None}
    if plain.startswith(("deeplab", "fcn", "lraspp", "retinanet", "fcos", "ssdlite")):
        options["weights_backbone"] = None
    if plain in ("googlenet", "inception_v3"):
        options |= {"init_weights": False, "aux_logits": False}  # heads of training, for images of 224 and more
    model: nn.Module = load("torchvision.models", "get_model")(plain, **options)
    return with_relu(model) if plain != name else model


class _Detector(nn.Module):
    """A detector up to its boxes: which of them to keep takes operators in C++."""

    def __init__(self, name: str) -> None:
        super().__init__()
        detector: Any = _torchvision(name)
        self.backbone, self.head = detector.backbone, detector.head

    def forward(self, x: Tensor) -> Any:
        return self.head(list(self.backbone(x).values()))


def _pytorchcv(name: str) -> nn.Module:
    model: Any = load("pytorchcv.model_provider", "get_model")(name, pretrained=False)
    if isinstance(getattr(getattr(model, "features", None), "final_pool", None), nn.AvgPool2d):
        model.features.final_pool = nn.AdaptiveAvgPool2d(1)  # of the whole image, whatever its size
    return model  # type: ignore[no-any-return]


def _segmentation(name: str, encoder: str) -> nn.Module:
    model: nn.Module = load("segmentation_models_pytorch", name)(encoder, encoder_weights=None, classes=2)
    return model


def _title(library: str, name: str) -> str:
    return f"{library}/{name.replace('+relu', ' with ReLU')}"


def _efficientnet() -> nn.Module:
    model: nn.Module = load("efficientnet_pytorch", "EfficientNet").from_name("efficientnet-b0")
    return with_relu(model)


def _facexlib(module: str, name: str, **options: Any) -> nn.Module:
    sys.modules.setdefault("cv2", types.ModuleType("cv2"))  # imported by the package, not used by its networks
    model: nn.Module = load(f"facexlib.parsing.{module}", name)(**options)
    return model


def _kornia(name: str, **options: Any) -> nn.Module:
    model: nn.Module = load("kornia.feature", name)(**{"pretrained": False, **options})
    return model


NETWORKS: dict[str, Network] = {
    **{
        _title("torchvision", name): Network(partial(_torchvision, name), noise(3, size, size))
        for size, names in _TORCHVISION.items()
        for name in names.split()
    },
    **{
        _title("torchvision", name): Network(partial(_torchvision, name), noise(3, 8, 32, 32))
        for name in _TORCHVISION_VOLUMES.split()
    },
    **{
        _title("torchvision", name): Network(partial(_Detector, name), noise(3, 64, 64))
        for name in _TORCHVISION_DETECTORS.split()
    },
    **{
        f"pytorchcv/{name}": Network(partial(_pytorchcv, name), noise(3, size, size))
        for size, names in _PYTORCHCV.items()
        for name in names.split()
    },
    **{
        f"segmentation-models-pytorch/{name}, {encoder}": Network(
            partial(_segmentation, name, encoder), noise(3, 64, 64) if name != "PAN" else noise(3, 128, 128)
        )
        for name, encoder in _SEGMENTATION.items()
    },
    "efficientnet-pytorch/efficientnet-b0 with ReLU": Network(_efficientnet, noise(3, 64, 64)),
    "geffnet/mobilenetv2_100": Network(lambda: load("geffnet", "create_model")("mobilenetv2_100"), noise(3, 64, 64)),
    "geffnet/efficientnet_es": Network(lambda: load("geffnet", "create_model")("efficientnet_es"), noise(3, 64, 64)),
    "facexlib/BiSeNet": Network(partial(_facexlib, "bisenet", "BiSeNet", num_class=19), noise(3, 64, 64)),
    "facexlib/ParseNet": Network(
        partial(_facexlib, "parsenet", "ParseNet", in_size=64, out_size=64, base_ch=32, res_depth=4),
        noise(3, 64, 64),
    ),
    **{f"kornia/{name}": Network(partial(_kornia, name), noise(1, 32, 32)) for name in ("HardNet", "SOSNet", "TFeat")},
    "kornia/HardNet8": Network(partial(_kornia, "HardNet8"), noise(1, 32, 32)),
    "kornia/OriNet": Network(partial(_kornia, "OriNet"), noise(1, 32, 32)),
    "kornia/DISK": Network(lambda: load("kornia.feature", "DISK")(), noise(3, 64, 64)),
    "kornia/KeyNet": Network(partial(_kornia, "KeyNet"), noise(1, 64, 64)),
    "kornia/XFeat": Network(lambda: load("kornia.feature", "XFeatModel")(), noise(1, 64, 64)),
}
