"""Networks of torchvision and timm, which are optional packages of one benchmark.

Install them beside a CPU torch without their dependencies, in versions that belong to it::

    pip install --no-deps torchvision==0.28.0 timm

torchvision's usual wheel is built for CUDA, and its operators do not load beside a CPU torch.
Naming them to torch before the import is enough for its networks.
"""

from __future__ import annotations

import importlib
import re
import sys
from typing import Any

import torch
from torch import Tensor, nn

_TIMM = """
botnet26t_256 eca_botnext26ts_256 halonet26t lambda_resnet26rpt_256 sebotnet33ts_256
bat_resnext26ts eca_resnet33ts eca_resnext26ts gcresnet33ts gcresnext26ts gernet_s mobileone_s0
regnetz_b16 regnetz_c16 regnetz_d32 repvgg_a0 repvgg_d2se resnet32ts resnext26ts seresnet33ts
seresnext26ts test_byobnet convmixer_768_32 convnext_atto convnext_atto_ols convnext_atto_rms
convnext_tiny_hnf convnextv2_atto test_convnext cs3darknet_s cs3darknet_focus_s cs3sedarknet_l
cs3edgenet_x cspdarknet53 cspresnet50 cspresnext50 darknet17 sedarknet21 densenet121
densenetblur121d dla34 dla46_c dla46x_c dla60_res2net dpn48b dpn68 edgenext_xx_small
edgenext_small_rw efficientnet_b0 efficientnet_b0_gn efficientnet_b0_g8_gn efficientnet_blur_b0
efficientnet_cc_b0_4e efficientnet_el efficientnet_es_pruned efficientnet_lite0 efficientnet_x_b3
efficientnetv2_rw_t fbnetc_100 gc_efficientnetv2_rw_t mixnet_s mnasnet_050 mobilenet_edgetpu_v2_xs
mobilenetv1_100 mobilenetv2_050 semnasnet_050 spnasnet_100 test_efficientnet test_efficientnet_gn
test_efficientnet_ln tf_efficientnet_b0 tf_efficientnet_lite0 tf_efficientnetv2_b0 tf_mixnet_s
tinynet_e fasternet_t0 ghostnet_050 ghostnetv2_100 ghostnetv3_050 hardcorenas_a hgnet_tiny
hgnetv2_b0 hrnet_w18_small hrnet_w18_small_v2 inception_next_atto inception_resnet_v2 inception_v3
inception_v4 lcnetv2_base mambaout_femto test_mambaout convformer_s18 poolformer_s12
poolformerv2_s12 fbnetv3_b lcnet_035 mobilenetv3_small_050 mobilenetv3_large_075 mobilenetv3_rw
mobilenetv4_conv_small mobilenetv4_conv_blur_medium mobilenetv4_hybrid_medium nasnetalarge
dm_nfnet_f0 eca_nfnet_l0 nf_ecaresnet26 nf_regnet_b0 nf_resnet26 nf_seresnet26 nfnet_l0 test_nfnet
pnasnet5large rdnet_tiny regnetv_040 regnetx_002 regnety_002 regnetz_005 repghostnet_050
repvit_m0_9 res2net50_14w_8s res2next50 resnest14d ecaresnet26t ecaresnetlight ecaresnext26t_32x4d
resnet10t resnet18 resnet26d resnet50_gn resnetaa34d resnetblur18 resnetrs50 resnext26ts
seresnet18 seresnext26d_32x4d skresnet18 test_resnet resnetv2_18 resnetv2_50x1_bit resnetv2_50d_gn
rexnet_100 rexnetr_100 selecsls42 legacy_seresnet18 legacy_seresnext26_32x4d starnet_s050
tresnet_m vgg11 vgg11_bn ese_vovnet19b_slim_dw vovnet39a xception41 legacy_xception fastvit_t8
efficientvit_b0
"""
#: One small network of each of 154 families of CNNs.
TIMM = tuple(_TIMM.split())


def names() -> list[tuple[str, str]]:
    """Pairs of library and name.

    Raises:
        ModuleNotFoundError: One of the packages is not installed.
    """
    models = _torchvision().models
    timm = importlib.import_module("timm")
    ours = [*models.list_models(module=models), *models.list_models(module=models.segmentation)]
    known = set(timm.list_models())
    families = [name for name in TIMM if name in known]
    return [("torchvision", name) for name in ours] + [("timm", name) for name in families]


def create(library: str, name: str) -> tuple[nn.Module, Tensor]:
    """A network with random weights in eval mode, and an example of the size that it is made
    for.
    """
    torch.manual_seed(0)
    models: Any = _torchvision().models
    if library == "torchvision":
        options = (
            {"weights_backbone": None}
            if name in models.list_models(module=models.segmentation)
            else {}
        )
        model = models.get_model(name, weights=None, **options)
        side = 299 if name == "inception_v3" else 224
    else:
        timm = importlib.import_module("timm")
        model = timm.create_model(name, pretrained=False)
        side = model.default_cfg["input_size"][-1]
    return model.eval(), torch.rand(2, 3, side, side)


def _torchvision() -> Any:
    """torchvision, also where its operators cannot be loaded."""
    if "torchvision.models" in sys.modules:
        return sys.modules["torchvision"]
    library: Any = _new_library("torchvision", "FRAGMENT")
    while True:
        for name in [name for name in sys.modules if name.startswith("torchvision")]:
            del sys.modules[name]
        try:
            found = importlib.import_module("torchvision")
        except RuntimeError as error:
            missing = re.search(r"torchvision::(\w+) does not exist", str(error))
            if missing is None:
                raise
            library.define(f"{missing[1]}(Tensor _) -> Tensor")
        else:
            importlib.import_module("torchvision.models")
            _LIBRARIES.append(library)
            return found


#: torch's class without types.
_new_library: Any = torch.library.Library
#: Definitions end with their library.
_LIBRARIES: list[Any] = []
