"""Networks from the backbone section of config.json, and the section from networks."""

from metaprompts.errors import InputError
from metaprompts.models.config import Architecture, Second
from metaprompts.modules.backbone import Backbone, build_backbone
from metaprompts.modules.backbone.loading import plain_config
from metaprompts.modules.backbone.second_encoder import ImageBackbone


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
    unet, vae = plain_config(backbone.unet.config), plain_config(backbone.vae.config)
    second = None if backbone.second is None else _describe_second(backbone.second)
    return Architecture(unet=unet, vae=vae, second=second)


def second_of(named: Second | None, given: ImageBackbone | None, levels: int) -> ImageBackbone | None:
    """The image backbone that an adapter was trained with.

    Args:
        named: the backbone in the adapter's config.json; None if it has none
        given: an image backbone that is already loaded; used if it is the same
        levels: number of levels of the pyramid

    Raises:
        InputError: the image backbone cannot be loaded, or has other weights
    """
    if named is None:
        return None
    if given is not None and given.fingerprint() == named.fingerprint:
        return given
    from metaprompts.modules.backbone.second_loading import load_second

    second = load_second(named.source, levels)
    found = second.fingerprint()
    if found != named.fingerprint:
        raise InputError(
            f"the adapter was trained with the second encoder {named.source} with weights {named.fingerprint}, but "
            f"{named.source} has {found}: provide the same encoder"
        )
    return second


def _describe_second(second: ImageBackbone) -> Second:
    from metaprompts.modules.backbone.second_loading import plain_config as plain_second

    network = plain_second(second.network.config)
    # On the meta device, as in estimates of memory, there are no weights to identify.
    is_empty = next(second.network.parameters()).is_meta
    fingerprint = "" if is_empty else second.fingerprint()
    return Second(source=second.source, fingerprint=fingerprint, network=network, mean=second.mean, std=second.std)
