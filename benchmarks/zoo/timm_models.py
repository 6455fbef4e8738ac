"""Networks of timm: one or two of each family, and those whose units were once read along a wrong axis."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.zoo.network import Network, load, noise, with_relu

if TYPE_CHECKING:
    from torch import nn

# Names by the size of the images that they are run on. "+relu": with ReLU; "=": the model is built for that size.
_NAMES: dict[int, str] = {
    64: """
        botnet26t_256= botnet50ts_256+relu= caformer_s18 cait_xxs24_224+relu= coat_lite_mini+relu=
        coat_tiny+relu= coatnet_0_rw_224+relu= coatnet_nano_rw_224+relu= coatnet_rmlp_nano_rw_224+relu=
        coatnext_nano_rw_224+relu= convformer_s18 convit_tiny+relu= convmixer_768_32 convnext_atto+relu
        convnextv2_atto+relu cs3darknet_s+relu cspresnet50 cspresnext50 darknet17 davit_tiny+relu densenet121
        densenetblur121d dla34 dla46x_c dla60_res2net dm_nfnet_f0+relu dpn48b dpn68 eca_botnext26ts_256+relu=
        eca_resnet33ts+relu eca_vovnet39b ecaresnet26t ecaresnext26t_32x4d edgenext_xx_small+relu
        efficientformerv2_s0+relu= efficientformerv2_s1+relu= efficientformerv2_s2+relu=
        efficientnet_b0+relu efficientnet_b0_gn+relu efficientnet_cc_b0_4e+relu efficientnet_es efficientnet_lite0
        efficientvit_b0+relu efficientvit_l1+relu ese_vovnet19b_dw fasternet_t0+relu fbnetc_100 fbnetv3_b+relu
        gc_efficientnetv2_rw_t+relu gcresnet33ts+relu gcresnet50t gcresnext26ts gernet_s ghostnet_050 ghostnetv2_100
        hardcorenas_a hgnet_tiny hgnetv2_b0 hrnet_w18_small inception_next_atto+relu lambda_resnet26rpt_256=
        lambda_resnet26t= lcnet_050 legacy_senet154 legacy_seresnet18 legacy_seresnext26_32x4d levit_conv_128s+relu=
        mambaout_femto+relu mixnet_s mnasnet_small mobilenetv1_100 mobilenetv2_035 mobilenetv3_small_050
        mobilenetv4_conv_small mobilenetv4_hybrid_medium mobileone_s0 mobilevit_xxs+relu mobilevitv2_050+relu
        nf_ecaresnet26 nf_regnet_b0+relu nf_resnet26 poolformer_s12+relu poolformerv2_s12 pvt_v2_b0+relu
        rdnet_tiny+relu regnetx_002 regnety_002 regnetz_005+relu repghostnet_050 repvgg_a0 repvit_m0_9+relu
        res2net50_14w_8s resnest14d resnet10t resnet18 resnet18d resnet26 resnet32ts+relu resnet50_gn resnetaa34d
        resnetblur18 resnetrs50 resnetv2_18 resnetv2_50d_gn resnext26ts+relu rexnet_100+relu
        selecsls42b semnasnet_075 seresnet18 skresnet18 spnasnet_100 starnet_s1 tiny_vit_5m_224+relu tinynet_e+relu
        tresnet_m twins_pcpvt_small+relu vgg11 vgg11_bn visformer_tiny+relu= vovnet39a wide_resnet50_2 xception41
    """,
    256: "bat_resnext26ts+relu eca_halonext26ts+relu halonet26t",
    96: "inception_v3 inception_v4 inception_resnet_v2 nasnetalarge pnasnet5large crossvit_tiny_240+relu",
}


def _network(name: str, size: int) -> Network:
    replaced, sized = "+relu" in name, name.endswith("=")
    timm_name = name.removesuffix("=").removesuffix("+relu")

    def build() -> nn.Module:
        options: dict[str, Any] = {"img_size": size} if sized else {}
        model: nn.Module = load("timm", "create_model")(timm_name, num_classes=10, **options)
        return with_relu(model) if replaced else model

    return Network(build, noise(3, size, size))


def _title(name: str) -> str:
    return "timm/" + name.removesuffix("=").replace("+relu", " with ReLU")


NETWORKS = {_title(name): _network(name, size) for size, names in _NAMES.items() for name in names.split()}
