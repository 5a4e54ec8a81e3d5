"""Recognising what a weight file holds, by the names and shapes of its tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

Kind = Literal["unet", "vae", "audio_encoder", "face_parser", "dwpose", "s3fd"]
Shapes = Mapping[str, tuple[int, ...]]

# What a model version is made of; and what finds faces as upstream does, which nothing needs.
KINDS: tuple[Kind, ...] = ("unet", "vae", "audio_encoder", "face_parser")
FACE_KINDS: tuple[Kind, ...] = ("dwpose", "s3fd")
TITLES: dict[Kind, str] = {
    "unet": "the MuseTalk UNet",
    "vae": "the Stable Diffusion VAE",
    "audio_encoder": "the Whisper-tiny encoder",
    "face_parser": "the BiSeNet face parser",
    "dwpose": "the DWPose landmark network",
    "s3fd": "the S3FD face detector",
}
EXPECTED: dict[Kind, str] = {
    "unet": "conv_in.weight [320, 8, 3, 3] and ...attn2.to_k.weight [320, 384]",
    "vae": "encoder.conv_in.weight [128, 3, 3, 3] and post_quant_conv.weight [4, 4, 1, 1]",
    "audio_encoder": "encoder.conv1.weight [384, 80, 3] and encoder.embed_positions.weight [1500, 384]",
    "face_parser": "cp.resnet.conv1.weight [64, 3, 7, 7] and conv_out.conv_out.weight [19, 256, 1, 1]",
    "dwpose": "backbone.stem.0.conv.weight [32, 3, 3, 3] and head.final_layer.weight [133, 1024, 7, 7]",
    "s3fd": "conv1_1.weight [64, 3, 3, 3] and fc6.weight [1024, 512, 3, 3]",
}

_MEL_BINS = 80
# What other diffusion UNets take as context, and the widths of the larger Whispers, whose layers are too many.
_FAMILIES = {768: "Stable Diffusion 1.x", 1024: "Stable Diffusion 2.x", 2048: "SDXL"}
_LARGER_WHISPERS = (512, 768, 1024, 1280)

SINGLE_FILE_VAE_PREFIX = "first_stage_model."
_WHISPER_PREFIXES = ("model.encoder.", "encoder.", "")


@dataclass(frozen=True)
class Signature:
    """What a file holds.

    kind: the network it can be loaded as; None when MuseTalk has no use for it.
    title: in words, for messages.
    prefix: what precedes the network's own names in the file.
    naming: which of the published naming schemes the file uses.
    evidence: the tensors that decided.
    """

    kind: Kind | None
    title: str
    prefix: str = ""
    naming: str = "published"
    evidence: str = ""


def recognise(shapes: Shapes) -> Signature:
    """What the tensors with these names and shapes are. Never raises: the unknown has kind None."""
    for recogniser in (_unet, _vae, _whisper, _face_parser, _dwpose, _s3fd, _foreign):
        found = recogniser(shapes)
        if found is not None:
            return found
    names = ", ".join(f"{name} {list(shape)}" for name, shape in list(shapes.items())[:3])
    return Signature(None, f"an unknown network of {len(shapes)} tensors", evidence=names)


def _unet(shapes: Shapes) -> Signature | None:
    first = shapes.get("conv_in.weight")
    if first is None or len(first) != 4 or "mid_block.attentions.0.proj_in.weight" not in shapes:
        return None
    contexts = (shape for name, shape in shapes.items() if name.endswith("attn2.to_k.weight") and len(shape) == 2)
    context = next(contexts, (0, 0))
    evidence = f"conv_in.weight {list(first)}, attn2.to_k.weight {list(context)}"
    if first[1] == 8 and context[1] not in (0, *_FAMILIES):
        return Signature("unet", TITLES["unet"], evidence=evidence)
    family = _FAMILIES.get(context[1], "diffusion")
    title = f"an ordinary {family} UNet ({first[1]} input channels, context {context[1]})"
    return Signature(None, title, evidence=evidence)


def _vae(shapes: Shapes) -> Signature | None:
    for prefix in ("", SINGLE_FILE_VAE_PREFIX, "vae."):
        first = shapes.get(f"{prefix}encoder.conv_in.weight")
        latents = shapes.get(f"{prefix}post_quant_conv.weight")
        if first is None or latents is None or len(first) != 4 or len(latents) != 4:
            continue
        evidence = f"{prefix}encoder.conv_in.weight {list(first)}, post_quant_conv.weight {list(latents)}"
        if (first[1], latents[0]) != (3, 4):
            title = f"a VAE of {first[1]} to {latents[0]} channels, not Stable Diffusion 1.x's 3 to 4"
            return Signature(None, title, prefix, evidence=evidence)
        if f"{prefix}encoder.down.0.block.0.conv1.weight" in shapes:
            title = "a Stable Diffusion VAE in single-file form"
            if prefix == SINGLE_FILE_VAE_PREFIX:
                title = "a whole Stable Diffusion checkpoint, of which only the VAE is of use"
            return Signature("vae", title, prefix, "single-file", evidence)
        if f"{prefix}encoder.mid_block.attentions.0.query.weight" in shapes:
            return Signature("vae", "a Stable Diffusion VAE with old attention names", prefix, "old", evidence)
        if f"{prefix}encoder.mid_block.attentions.0.to_q.weight" in shapes:
            return Signature("vae", TITLES["vae"], prefix, evidence=evidence)
    return None


def _whisper(shapes: Shapes) -> Signature | None:
    for prefix in _WHISPER_PREFIXES:
        first = shapes.get(f"{prefix}conv1.weight")
        if first is None or len(first) != 3:
            continue
        if f"{prefix}blocks.0.attn.query.weight" in shapes:
            naming, positions_name = "openai", "positional_embedding"
        elif f"{prefix}layers.0.self_attn.q_proj.weight" in shapes:
            naming, positions_name = "published", "embed_positions.weight"
        else:
            continue
        positions = shapes.get(f"{prefix}{positions_name}", ())
        evidence = f"{prefix}conv1.weight {list(first)}, {prefix}{positions_name} {list(positions)}"
        if first[0] in _LARGER_WHISPERS or first[1:] != (_MEL_BINS, 3):
            title = f"a Whisper of width {first[0]} with {first[1]} mel bins, not whisper-tiny's 384 with {_MEL_BINS}"
            return Signature(None, title, prefix, naming, evidence)
        return Signature("audio_encoder", TITLES["audio_encoder"], prefix, naming, evidence)
    return None


def _face_parser(shapes: Shapes) -> Signature | None:
    first, last = shapes.get("cp.resnet.conv1.weight"), shapes.get("conv_out.conv_out.weight")
    if first is None or last is None or len(last) != 4:
        return None
    evidence = f"cp.resnet.conv1.weight {list(first)}, conv_out.conv_out.weight {list(last)}"
    if last[0] != 19:
        return Signature(None, f"a BiSeNet with {last[0]} classes, not the face parser's 19", evidence=evidence)
    return Signature("face_parser", TITLES["face_parser"], evidence=evidence)


def _dwpose(shapes: Shapes) -> Signature | None:
    first, last = shapes.get("backbone.stem.0.conv.weight"), shapes.get("head.final_layer.weight")
    if first is None or last is None or len(last) != 4:
        return None
    evidence = f"backbone.stem.0.conv.weight {list(first)}, head.final_layer.weight {list(last)}"
    if last != (133, 1024, 7, 7):
        title = f"an RTMPose of {last[0]} points and {last[1]} channels, not DWPose-l's 133 and 1024"
        return Signature(None, title, evidence=evidence)
    return Signature("dwpose", TITLES["dwpose"], evidence=evidence)


def _s3fd(shapes: Shapes) -> Signature | None:
    first, last = shapes.get("conv1_1.weight"), shapes.get("fc6.weight")
    if first is None or last != (1024, 512, 3, 3):
        return None
    evidence = f"conv1_1.weight {list(first)}, fc6.weight {list(last)}"
    return Signature("s3fd", TITLES["s3fd"], evidence=evidence)


def _has(*names: str) -> Callable[[Shapes], bool]:
    return lambda shapes: all(name in shapes for name in names)


_FOREIGN: tuple[tuple[str, Callable[[Shapes], bool]], ...] = (
    (
        "a UNet in single-file Stable Diffusion form, without a VAE",
        _has("model.diffusion_model.input_blocks.0.0.weight"),
    ),
    (
        "the ResNet-18 classifier, which the face parser does not need",
        _has("layer4.1.conv2.weight", "fc.weight"),
    ),
    (
        "the LatentSync SyncNet, used only in training",
        lambda shapes: any("audio_encoder." in n for n in shapes),
    ),
)


def _foreign(shapes: Shapes) -> Signature | None:
    for title, matches in _FOREIGN:
        if matches(shapes):
            first = next(iter(shapes.items()))
            return Signature(None, title, evidence=f"{first[0]} {list(first[1])}")
    return None
