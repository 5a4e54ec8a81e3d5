"""LoRA files that are damaged, hostile, or another program's."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from musetalk.errors import ModelFileError
from musetalk.models.lora import load_lora, save_lora
from musetalk.models.unet import UNetConfig

from .loras import DOWN, UP, random_lora


@pytest.fixture(scope="session")
def config(random_models) -> UNetConfig:
    return random_models.TINY_UNET


@pytest.fixture
def saved(config, tmp_path) -> Path:
    path = tmp_path / "anna.safetensors"
    save_lora(random_lora(config), path, config)
    return path


def rewrite(path: Path, change, header=None) -> None:
    with safe_open(path, "pt") as file:
        metadata = dict(file.metadata())
    tensors = change(load_file(path))
    save_file(tensors, path, metadata={**metadata, **(header or {})})


FIRST = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn1.to_q"
SD15 = "unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k"


def nan_in(tensors):
    tensors[FIRST + UP][0, 0] = float("nan")
    return tensors


HOSTILE = {
    "half missing": (
        lambda t: {n: v for n, v in t.items() if n != FIRST + UP},
        None,
        "without its other half: unet.down",
    ),
    "wrong shape": (
        lambda t: {**t, FIRST + UP: torch.zeros(32, 5)},
        None,
        r"of another shape: .*\[32, 5\] instead of \[32, 4\]",
    ),
    "no matrix": (lambda t: {**t, FIRST + DOWN: torch.zeros(4)}, None, "not a LoRA for this UNet"),
    "scalars": (lambda t: {FIRST + DOWN: torch.zeros(()), FIRST + UP: torch.zeros(())}, None, "rank 0"),
    "unknown name": (lambda t: {**t, "unet.conv_in.lora_A.weight": torch.zeros(4, 8)}, None, "unknown: unet.conv_in"),
    "not a number": (nan_in, None, "no finite numbers"),
    "integers": (lambda t: {**t, FIRST + UP: torch.zeros(32, 4, dtype=torch.int32)}, None, "is torch.int32"),
    "format": (lambda t: t, {"musetalk_lora": "9"}, "format 9; this version reads 1"),
    "rank": (lambda t: t, {"rank": "8"}, "says rank 8, its tensors 4"),
    "alpha": (lambda t: t, {"alpha": "inf"}, "alpha inf"),
    "alpha text": (lambda t: t, {"alpha": "__import__"}, "alpha __import__"),
    "version": (lambda t: t, {"musetalk_version": "v9"}, "for MuseTalk v9"),
    "base": (lambda t: t, {"base_fingerprint": "0" * 64}, "trained for a UNet of other sizes"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files(saved, config, name):
    change, header, message = HOSTILE[name]
    rewrite(saved, change, header)
    with pytest.raises(ModelFileError, match=message):
        load_lora(saved, config)


FOREIGN = {
    "SD 1.5, diffusers": (
        {SD15 + DOWN: torch.zeros(4, 768), SD15 + UP: torch.zeros(320, 4)},
        r"Stable Diffusion 1\.x's UNet.*\[4, 768\] instead of \[4, 384\]",
    ),
    "SDXL, kohya": (
        {"lora_unet_input_blocks_4_1_transformer_blocks_0_attn2_to_k.lora_down.weight": torch.zeros(4, 2048)},
        "a LoRA for SDXL's UNet",
    ),
    "SD 2, old diffusers": (
        {
            "unet.mid_block.attentions.0.transformer_blocks.0.attn2.processor.to_k_lora.down.weight": torch.zeros(
                4, 1024
            )
        },
        r"a LoRA for Stable Diffusion 2\.x's UNet",
    ),
    "unknown LoRA": (
        {"transformer.x.lora_down.weight": torch.zeros(4, 9)},
        "a LoRA under other names, such as transformer",
    ),
    "a VAE": (
        {
            "encoder.conv_in.weight": torch.zeros(128, 3, 3, 3),
            "post_quant_conv.weight": torch.zeros(4, 4, 1, 1),
            "encoder.mid_block.attentions.0.to_q.weight": torch.zeros(1),
        },
        "not a MuseTalk LoRA but the Stable Diffusion VAE",
    ),
    "no header": ({FIRST + DOWN: torch.zeros(4, 320), FIRST + UP: torch.zeros(320, 4)}, "lacks musetalk_lora"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_a_foreign_file_is_refused_saying_what_it_is(tmp_path, name):
    tensors, message = FOREIGN[name]
    path = tmp_path / "x.safetensors"
    save_file(tensors, path)
    with pytest.raises(ModelFileError, match=message):
        load_lora(path)


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("the pickle was run",))


def test_nothing_in_a_file_is_run(tmp_path, saved, config):
    data = saved.read_bytes()
    for suffix in (".safetensors", ".pt"):
        path = tmp_path / f"bomb{suffix}"
        path.write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(ModelFileError, match=r"not a weight file|\.safetensors files only"):
            load_lora(path)
    for length in (0, 4, 100, len(data) - 1):
        saved.write_bytes(data[:length])
        with pytest.raises(ModelFileError):
            load_lora(saved, config)
    with pytest.raises(ModelFileError, match="no such file"):
        load_lora(tmp_path / "none.safetensors", config)
