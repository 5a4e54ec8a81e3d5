"""Models with random weights in the official layout: the same values on every machine.

    python tests/random_models.py --out DIR                 # tiny networks, about 50 MB
    python tests/random_models.py --out DIR --full          # the published sizes, about 3.8 GB

Every tensor has its own generator, seeded by its file and name, so its values depend on nothing but those and
its shape. The scales make the networks behave as trained ones where a test can see it: the autoencoder's
posterior is narrow and its picture spans the range, the UNet listens to the audio tokens and to their order.
Needs the package to be importable (``pip install -e .``).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from musetalk.models.audio_encoder import WhisperConfig, WhisperEncoder
from musetalk.models.face_parser import BiSeNet, Head
from musetalk.models.unet import UNet, UNetConfig
from musetalk.models.vae import AutoencoderKL, VAEConfig

TINY_UNET = UNetConfig(block_out_channels=(32, 64, 64, 64), layers_per_block=1, norm_num_groups=8)
TINY_VAE = VAEConfig(block_out_channels=(16, 32, 32, 32), layers_per_block=1, norm_num_groups=8)
TINY_WHISPER = WhisperConfig(ffn_channels=64)
# The sizes of musetalk-mini, the model in the package.
MINI_UNET = UNetConfig(
    block_out_channels=(64, 128, 192),
    attention=(False, False, True),
    layers_per_block=1,
    cross_attention_dim=128,
    heads=4,
)
MINI_VAE = VAEConfig(block_out_channels=(16, 16, 32, 64), layers_per_block=1, norm_num_groups=8)
MINI_WHISPER = WhisperConfig(channels=128, heads=4, ffn_channels=512)
UNET_FILES = {"v15": ("musetalkV15", "unet", ".pth"), "v1": ("musetalk", "pytorch_model", ".bin")}
OLD_ATTENTION_NAMES = (
    (".to_q.", ".query."),
    (".to_k.", ".key."),
    (".to_v.", ".value."),
    (".to_out.0.", ".proj_attn."),
)
# The first part of a name that matches sets the gain of that matrix; 1 for the rest.
UNET_GAINS = (
    ("attn2.to_out", 3.0),
    ("attn2.to_k", 2.0),
    ("attn2.to_q", 2.0),
    ("attn1.to_k", 1.5),
    ("attn1.to_q", 1.5),
    ("conv2", 0.7),
    ("ff.net.2", 0.7),
    ("proj_out", 0.7),
    ("conv_out", 0.9),
)
VAE_GAINS = (("to_k", 1.5), ("to_q", 1.5), ("conv2", 0.7))
LATENT_SPREAD = 5.5  # standard deviation of a trained autoencoder's unscaled latents
POSTERIOR_LOGVAR = -18.0

Weights = dict[str, Tensor]
Gains = Sequence[tuple[str, float]]


class Draw:
    """Random tensors of one file; every name has a stream of its own."""

    def __init__(self, scope: str, seed: int):
        self.scope, self.seed = scope, seed

    def _generator(self, name: str) -> torch.Generator:
        digest = hashlib.sha256(f"{self.seed}/{self.scope}/{name}".encode()).digest()
        return torch.Generator().manual_seed(int.from_bytes(digest[:7], "big"))

    def normal(self, name: str, shape: Sequence[int], std: float, mean: float = 0.0) -> Tensor:
        return torch.empty(tuple(shape)).normal_(generator=self._generator(name)).mul_(std).add_(mean)

    def uniform(self, name: str, shape: Sequence[int], low: float, high: float) -> Tensor:
        return torch.empty(tuple(shape)).uniform_(low, high, generator=self._generator(name))

    def matrix(self, name: str, shape: Sequence[int], gain: float = 1.0) -> Tensor:
        return self.normal(name, shape, gain / math.sqrt(math.prod(shape[1:])))


def make_random_models(
    out: Path,
    *,
    full: bool = False,
    version: str = "v15",
    weight_format: str = "pth",
    face_parser: bool = True,
    seed: int = 0,
) -> None:
    """Write a models folder.

    full: the published sizes instead of tiny ones. weight_format: ``pth`` as published, or ``safetensors``.
    """
    size = "full" if full else "tiny"
    unet_config = UNetConfig() if full else TINY_UNET
    vae_config = VAEConfig() if full else TINY_VAE
    whisper_config = WhisperConfig() if full else TINY_WHISPER
    folder, stem, suffix = UNET_FILES[version]

    _write_json(out / folder / "musetalk.json", unet_json(unet_config))
    _write_weights(out / folder / stem, unet_weights(unet_config, Draw(f"{size}/unet", seed)), suffix, weight_format)
    _write_json(out / "sd-vae" / "config.json", vae_json(vae_config))
    vae = old_attention_names(vae_weights(vae_config, Draw(f"{size}/vae", seed)))
    _write_weights(out / "sd-vae" / "diffusion_pytorch_model", vae, ".bin", weight_format)
    _write_json(out / "whisper" / "config.json", whisper_json(whisper_config))
    whisper = whisper_weights(whisper_config, Draw(f"{size}/whisper", seed))
    stem = "model" if weight_format == "safetensors" else "pytorch_model"
    _write_weights(out / "whisper" / stem, whisper, ".bin", weight_format)
    if face_parser:
        parser = face_parser_weights(Draw("bisenet", seed))
        if not full:  # its sizes are fixed; half precision at least halves the file
            parser = {name: value.half() if value.is_floating_point() else value for name, value in parser.items()}
        path = out / "face-parse-bisent" / "79999_iter"
        _write_weights(path, parser, ".pth", weight_format, zipped=False)


def make_random_mini(out: Path, seed: int = 0) -> None:
    """Write a models folder as musetalk-mini lies in the package: its sizes, safetensors, half precision, no parser."""
    _write_json(out / "musetalkV15" / "musetalk.json", unet_json(MINI_UNET))
    _write_json(out / "sd-vae" / "config.json", vae_json(MINI_VAE))
    _write_json(out / "whisper" / "config.json", whisper_json(MINI_WHISPER))
    networks = {
        "musetalkV15/unet": unet_weights(MINI_UNET, Draw("mini/unet", seed)),
        "sd-vae/diffusion_pytorch_model": vae_weights(MINI_VAE, Draw("mini/vae", seed)),
        "whisper/model": whisper_weights(MINI_WHISPER, Draw("mini/whisper", seed)),
    }
    for stem, weights in networks.items():
        halves = {name: value.half() for name, value in weights.items()}
        _write_weights(out / stem, halves, ".safetensors", "safetensors")


def unet_weights(config: UNetConfig, draw: Draw) -> Weights:
    """By the published names."""
    return {name: _tensor(draw, name, shape, UNET_GAINS) for name, shape in _shapes(UNet, config).items()}


def vae_weights(config: VAEConfig, draw: Draw) -> Weights:
    """By the published names, new style."""
    last_gain = 1.5 if config.block_out_channels[0] >= 64 else 0.55
    gains = (("decoder.conv_out", last_gain), *VAE_GAINS)
    weights = {name: _tensor(draw, name, shape, gains) for name, shape in _shapes(AutoencoderKL, config).items()}
    latents = config.latent_channels
    moments = weights["quant_conv.weight"]
    moments[:latents] *= LATENT_SPREAD
    moments[latents:] *= 0.5
    bias = draw.normal("quant_conv.bias", (2 * latents,), 0.1)
    bias[latents:] += POSTERIOR_LOGVAR
    weights["quant_conv.bias"] = bias
    # Brings latents back to about 1 and keeps all channels in use.
    shape = weights["post_quant_conv.weight"].shape
    identity = torch.eye(latents).reshape(shape) / LATENT_SPREAD
    weights["post_quant_conv.weight"] = identity + draw.normal("post_quant_conv.weight", shape, 0.05)
    return weights


def whisper_weights(config: WhisperConfig, draw: Draw) -> Weights:
    """By the published names of the encoder; there is no decoder."""
    weights = {}
    for own_name, shape in _shapes(WhisperEncoder, config).items():
        name = f"encoder.{own_name}"
        if own_name == "embed_positions.weight":
            tensor = _sinusoids(*shape)
        elif len(shape) == 1:
            is_scale = "norm" in name and name.endswith("weight")
            tensor = draw.normal(name, shape, 0.1, 1.0) if is_scale else draw.normal(name, shape, 0.02)
        else:
            tensor = draw.matrix(name, shape, 1.5 if "q_proj" in name or "k_proj" in name else 1.0)
        weights[f"model.{name}"] = tensor
    return weights


def face_parser_weights(draw: Draw) -> Weights:
    """By the published names, with the two heads that only training uses. Its classes mean nothing."""
    shapes = _shapes(BiSeNet)
    for stride in (16, 32):
        shapes |= {f"conv_out{stride}.{name}": shape for name, shape in _shapes(Head, 128, 64).items()}
    weights = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            tensor = torch.tensor(80000)
        elif name.endswith("running_mean"):
            tensor = draw.normal(name, shape, 0.05)
        elif name.endswith("running_var"):
            tensor = draw.uniform(name, shape, 0.6, 1.6)
        elif len(shape) == 1:
            tensor = draw.normal(name, shape, 0.1, 1.0) if name.endswith("weight") else draw.normal(name, shape, 0.05)
        elif "resnet" in name and ".conv2." in name:
            tensor = draw.matrix(name, shape, 0.7)  # residual branches
        else:
            tensor = draw.matrix(name, shape, 1.0 if "downsample" in name or "conv_avg" in name else math.sqrt(2.0))
        weights[name] = tensor
    return weights


def old_attention_names(weights: Weights) -> Weights:
    """The autoencoder's attention layers under the names of the published file."""
    renamed = {}
    for name, value in weights.items():
        if "attentions" in name:
            for new, old in OLD_ATTENTION_NAMES:
                name = name.replace(new, old)
        renamed[name] = value
    return renamed


def unet_json(config: UNetConfig) -> dict[str, Any]:
    attention = ["CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in config.attention]
    return {
        "_class_name": "UNet2DConditionModel",
        "attention_head_dim": config.heads,
        "block_out_channels": list(config.block_out_channels),
        "cross_attention_dim": config.cross_attention_dim,
        "down_block_types": attention,
        "in_channels": config.in_channels,
        "layers_per_block": config.layers_per_block,
        "norm_num_groups": config.norm_num_groups,
        "out_channels": config.out_channels,
        "up_block_types": [name.replace("Down", "Up") for name in reversed(attention)],
    }


def vae_json(config: VAEConfig) -> dict[str, Any]:
    return {
        "_class_name": "AutoencoderKL",
        "block_out_channels": list(config.block_out_channels),
        "latent_channels": config.latent_channels,
        "layers_per_block": config.layers_per_block,
        "norm_num_groups": config.norm_num_groups,
    }


def whisper_json(config: WhisperConfig) -> dict[str, Any]:
    return {
        "model_type": "whisper",
        "d_model": config.channels,
        "encoder_attention_heads": config.heads,
        "encoder_ffn_dim": config.ffn_channels,
        "encoder_layers": config.layers,
        "max_source_positions": config.positions,
        "num_mel_bins": config.mel_bins,
    }


def _shapes(network: type[nn.Module], *arguments: Any) -> dict[str, tuple[int, ...]]:
    with torch.device("meta"):
        return {name: tuple(value.shape) for name, value in network(*arguments).state_dict().items()}


def _tensor(draw: Draw, name: str, shape: Sequence[int], gains: Gains) -> Tensor:
    if len(shape) > 1:
        return draw.matrix(name, shape, next((gain for part, gain in gains if part in name), 1.0))
    if "norm" not in name:
        return draw.normal(name, shape, 0.02)
    return draw.normal(name, shape, 0.1, 1.0) if name.endswith("weight") else draw.normal(name, shape, 0.05)


def _sinusoids(length: int, channels: int) -> Tensor:
    increment = math.log(10000) / (channels // 2 - 1)
    rates = torch.exp(-increment * torch.arange(channels // 2))
    angles = torch.arange(length).view(-1, 1) * rates.view(1, -1)
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def _write_weights(stem: Path, weights: Weights, suffix: str, weight_format: str, *, zipped: bool = True) -> None:
    stem.parent.mkdir(parents=True, exist_ok=True)
    if weight_format == "safetensors":
        save_file({name: value.contiguous() for name, value in weights.items()}, stem.with_suffix(".safetensors"))
    else:
        torch.save(weights, stem.with_suffix(suffix), _use_new_zipfile_serialization=zipped)


def write_core_vae(models: Path, seed: int = 0) -> None:
    """Put a tiny VAE into a models folder that ComfyUI's own VAE class can hold: 32 normalisation groups."""
    config = VAEConfig(block_out_channels=(32, 32, 32, 32), layers_per_block=1, norm_num_groups=32)
    weights = old_attention_names(vae_weights(config, Draw("core/vae", seed)))
    _write_json(models / "sd-vae" / "config.json", vae_json(config))
    _write_weights(models / "sd-vae" / "diffusion_pytorch_model", weights, ".bin", "pth")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="models folder to write")
    parser.add_argument("--full", action="store_true", help="the published sizes")
    parser.add_argument("--version", choices=tuple(UNET_FILES), default="v15")
    parser.add_argument("--format", choices=("pth", "safetensors"), default="pth")
    parser.add_argument("--no-face-parser", action="store_true", help="masks are then drawn from the face mesh")
    parser.add_argument("--core-vae", action="store_true", help="a tiny VAE that ComfyUI's own VAE class can hold")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    make_random_models(
        options.out,
        full=options.full,
        version=options.version,
        weight_format=options.format,
        face_parser=not options.no_face_parser,
        seed=options.seed,
    )
    if options.core_vae:
        write_core_vae(options.out, options.seed)


if __name__ == "__main__":
    main()
