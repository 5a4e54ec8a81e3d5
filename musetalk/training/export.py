"""UNet weights in the layout the loader reads, and a models folder that ``musetalk lipsync`` runs from."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from ..errors import InputError
from ..models.unet import UNetConfig
from ..models.weight_file import read_json
from .replacement import replaced

_ATTENDING, _PLAIN = "CrossAttnDownBlock2D", "DownBlock2D"
UNET_FOLDER = "musetalkV15"


def unet_json(config: UNetConfig) -> dict[str, Any]:
    """The sizes as the published ``musetalk.json`` gives them."""
    blocks = [_ATTENDING if attends else _PLAIN for attends in config.attention]
    return {
        "_class_name": "UNet2DConditionModel",
        "attention_head_dim": config.heads,
        "block_out_channels": list(config.block_out_channels),
        "cross_attention_dim": config.cross_attention_dim,
        "down_block_types": blocks,
        "in_channels": config.in_channels,
        "layers_per_block": config.layers_per_block,
        "norm_num_groups": config.norm_num_groups,
        "out_channels": config.out_channels,
        "up_block_types": [name.replace("Down", "Up") for name in reversed(blocks)],
    }


def read_unet_json(path: Path) -> UNetConfig:
    """The sizes in a ``musetalk.json``. Raises InputError where it does not describe such a network."""
    content = read_json(path)
    if content is None:
        raise InputError(f"{path}: no JSON object; give the musetalk.json of the UNet to train")
    default = unet_json(UNetConfig())
    content = {**{key: default[key] for key in ("in_channels", "out_channels", "norm_num_groups")}, **content}
    try:
        config = UNetConfig(
            in_channels=content["in_channels"],
            out_channels=content["out_channels"],
            block_out_channels=tuple(content["block_out_channels"]),
            attention=tuple(name == _ATTENDING for name in content["down_block_types"]),
            layers_per_block=content["layers_per_block"],
            cross_attention_dim=content["cross_attention_dim"],
            heads=content["attention_head_dim"],
            norm_num_groups=content["norm_num_groups"],
        )
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: not the configuration of a MuseTalk UNet (missing or wrong: {error})") from error
    divisors = (config.heads, config.norm_num_groups)
    if len(config.attention) != len(config.block_out_channels) or any(
        type(width) is not int or width % divisor for width in config.block_out_channels for divisor in divisors
    ):
        raise InputError(
            f"{path}: widths {list(config.block_out_channels)}, {len(config.attention)} blocks, {config.heads} heads "
            f"and {config.norm_num_groups} groups do not fit together"
        )
    return config


def save_unet(weights: Mapping[str, Tensor], config: UNetConfig, path: Path) -> None:
    """Write UNet weights as safetensors whose header says version and sizes, so the loader needs nothing beside it."""
    metadata = {"format": "pt", "musetalk_version": "v15", "config": json.dumps(unet_json(config))}
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}, path, metadata=metadata)


def export_models(weights: Mapping[str, Tensor], config: UNetConfig, frozen: Mapping[str, Path], out: Path) -> Path:
    """Make a models folder of trained weights and the frozen networks they were trained with.

    frozen: files of the networks that are not trained, by the folder they go to; with the JSON beside them they are
        linked where the file system can, else copied. Returns the UNet's path. An older export is replaced as a whole.
    Raises OutputError, and then an older export is still there.
    """
    with replaced(out) as part:
        folder = part / UNET_FOLDER
        folder.mkdir()
        save_unet(weights, config, folder / "unet.safetensors")
        (folder / "musetalk.json").write_text(json.dumps(unet_json(config), indent=2) + "\n", encoding="utf-8")
        for name, source in frozen.items():
            (part / name).mkdir()
            for file in {source, source.with_suffix(".json"), source.with_name("config.json")}:
                if file.is_file():
                    _link_or_copy(file, part / name / file.name)
    return out / UNET_FOLDER / "unet.safetensors"


def _link_or_copy(source: Path, target: Path) -> None:
    try:
        # Of the file itself: hub caches hold symbolic links.
        os.link(source.resolve(), target)
    except OSError:
        shutil.copy2(source, target)
