"""UPerNet and the auxiliary head against transformers' own, which came from mmsegmentation by another way."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers import UperNetConfig
from transformers.models.upernet.modeling_upernet import UperNetFCNHead, UperNetHead

from metaprompts.modules.heads.upernet import FCNHead, UPerNet

CHANNELS = (12, 16, 20, 24)
SIZES = {"even": [(32, 48), (16, 24), (8, 12), (4, 6)], "odd": [(31, 45), (16, 23), (8, 12), (5, 7)]}
WIDTH, CLASSES = 16, 5


def config(pool_scales=(1, 2, 3, 6)):
    return UperNetConfig(
        hidden_size=WIDTH,
        pool_scales=list(pool_scales),
        num_labels=CLASSES,
        auxiliary_channels=WIDTH,
        auxiliary_num_convs=1,
        auxiliary_concat_input=False,
    )


def maps(sizes):
    generator = torch.Generator().manual_seed(3)
    return [
        torch.randn(2, channels, *size, generator=generator) for channels, size in zip(CHANNELS, sizes, strict=True)
    ]


def share_weights(ours, theirs, names):
    """Give their head our weights; both must use every name."""
    torch.manual_seed(0)
    for module in ours.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 2)
            nn.init.normal_(module.bias)
    renamed = {}
    for name, tensor in ours.state_dict().items():
        for old, new in names:
            name = name.replace(old, new)
        parts = name.split(".")
        if parts[-3:-2] != ["classifier"] and parts[-2] in "01" and parts[0] != "classifier":
            parts[-2] = ("conv", "batch_norm")[int(parts[-2])]
        renamed[".".join(parts)] = tensor
    theirs.load_state_dict(renamed, strict=True)


UPERNET_NAMES = [
    ("pooling.", "psp_modules."),
    ("laterals.", "lateral_convs."),
    ("smooth.", "fpn_convs."),
    ("fuse.", "fpn_bottleneck."),
    ("classify.", "classifier."),
]


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("sizes", SIZES.values(), ids=SIZES)
@pytest.mark.parametrize("pool_scales", [(1, 2, 3, 6), (1, 4)])
def test_upernet_is_transformers_own(pool_scales, sizes, training):
    ours = UPerNet(CHANNELS, width=WIDTH, classes=CLASSES, pool_scales=pool_scales).train(training)
    theirs = UperNetHead(config(pool_scales), CHANNELS).train(training)
    share_weights(ours, theirs, UPERNET_NAMES)
    size = (100, 150)
    with torch.no_grad():
        expected = F.interpolate(theirs(maps(sizes)), size=size, mode="bilinear", align_corners=False)
        got = ours(maps(sizes), size)
    assert got.shape == (2, CLASSES, *size)
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


def test_auxiliary_head_is_transformers_own():
    ours = FCNHead(CHANNELS[2], width=WIDTH, classes=CLASSES, level=2).eval()
    theirs = UperNetFCNHead(config(), list(CHANNELS), in_index=2).eval()
    share_weights(ours, theirs, [("convolve.", "convs.0."), ("classify.", "classifier.")])
    given = maps(SIZES["odd"])
    with torch.no_grad():
        expected = F.interpolate(theirs(given), size=(64, 90), mode="bilinear", align_corners=False)
        torch.testing.assert_close(ours(given, (64, 90)), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("head", [UPerNet, FCNHead])
def test_dropout_drops_whole_channels_in_training_only(head):
    extra = {"level": 2} if head is FCNHead else {}
    channels = CHANNELS[2] if head is FCNHead else CHANNELS
    module = head(channels, width=WIDTH, classes=CLASSES, dropout=0.5, **extra)
    given, seen = maps(SIZES["even"]), []
    module.classify.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    torch.manual_seed(0)
    with torch.no_grad():
        module.train()(given, (8, 8))
        module.eval()(given, (8, 8))
    in_training, in_evaluation = ((features == 0).flatten(2).all(dim=2).sum() for features in seen)
    assert in_training > in_evaluation
    assert in_evaluation == 0
