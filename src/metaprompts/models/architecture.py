"""Networks from the backbone section of config.json, and the section from networks."""

from metaprompts.models.config import Architecture, Second
from metaprompts.modules.backbone import Backbone, build_backbone
from metaprompts.modules.backbone.loading import plain_config


def build(architecture: Architecture) -> Backbone:
    """A backbone with random weights.

    Raises:
        InputError: the networks cannot be built
    """
    backbone = build_backbone(architecture.unet, architecture.vae)
    named = architecture.second
    if named is None:
        return backbone
    from metaprompts.modules.backbone.second_loading import build_second

    second = build_second(named.network, source=named.source, mean=named.mean, std=named.std)
    return Backbone(backbone.unet, backbone.vae, second)


def describe(backbone: Backbone) -> Architecture:
    """The architecture of a backbone, with the fingerprint of its second encoder."""
    unet, vae, second = plain_config(backbone.unet.config), plain_config(backbone.vae.config), backbone.second
    if second is None:
        return Architecture(unet=unet, vae=vae)
    from metaprompts.modules.backbone.second_loading import plain_config as plain_second

    network = plain_second(second.network.config)
    # On the meta device, as in estimates of memory, there are no weights to identify.
    is_empty = next(second.network.parameters()).is_meta
    described = Second(
        source=second.source,
        fingerprint="" if is_empty else second.fingerprint(),
        network=network,
        mean=second.mean,
        std=second.std,
    )
    return Architecture(unet=unet, vae=vae, second=described)
