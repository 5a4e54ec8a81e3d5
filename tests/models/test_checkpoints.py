"""Reading single weight files: every format and naming scheme, and everything that must be refused."""

from __future__ import annotations

import json
import pickle
import re
from collections import OrderedDict
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from musetalk.errors import ModelFileError
from musetalk.models.checkpoints import examine
from musetalk.models.unet import UNet, UNetConfig


def assert_same_weights(network: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    state = network.state_dict()
    assert state.keys() == weights.keys()
    for name, value in weights.items():
        assert torch.equal(state[name], value), name


def write_unet_config(random_models, path: Path) -> None:
    path.write_text(json.dumps(random_models.unet_json(random_models.TINY_UNET)))


def write_vae_config(random_models, path: Path) -> None:
    path.write_text(json.dumps(random_models.vae_json(random_models.TINY_VAE)))


def single_file_names(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The autoencoder as Stable Diffusion's own code saves it."""
    renamed = {}
    for name, value in weights.items():
        if ".attentions.0.to_" in name and value.ndim == 2:
            value = value[:, :, None, None]
        name = re.sub(r"mid_block\.attentions\.0\.group_norm", "mid.attn_1.norm", name)
        name = re.sub(r"mid_block\.attentions\.0\.to_([qkv])", r"mid.attn_1.\1", name)
        name = name.replace("mid_block.attentions.0.to_out.0", "mid.attn_1.proj_out")
        name = re.sub(r"mid_block\.resnets\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
        name = re.sub(r"down_blocks\.(\d)\.resnets", r"down.\1.block", name)
        name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
        name = re.sub(r"up_blocks\.(\d)\.resnets", lambda m: f"up.{3 - int(m[1])}.block", name)
        name = re.sub(r"up_blocks\.(\d)\.upsamplers\.0", lambda m: f"up.{3 - int(m[1])}.upsample", name)
        name = name.replace("conv_shortcut", "nin_shortcut").replace("conv_norm_out", "norm_out")
        renamed[name] = value
    return renamed


@pytest.mark.parametrize("form", ["zip", "legacy", "wrapped", "safetensors"])
def test_a_unet_file_of_any_form_holds_the_same_network(random_models, unet_weights, tmp_path, form):
    write_unet_config(random_models, tmp_path / "musetalk.json")
    if form == "safetensors":
        path = tmp_path / "unet.safetensors"
        save_file(unet_weights, path)
    else:
        path = tmp_path / "unet.pth"
        content = {"state_dict": unet_weights, "global_step": 7} if form == "wrapped" else OrderedDict(unet_weights)
        torch.save(content, path, _use_new_zipfile_serialization=form != "legacy")
    checkpoint = examine(path, "unet")
    assert checkpoint.config == random_models.TINY_UNET
    network = checkpoint.build()
    assert_same_weights(network, unet_weights)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())
    path.unlink()  # the network does not lean on the file
    assert_same_weights(network, unet_weights)


@pytest.mark.parametrize("naming", ["new", "old", "single-file", "whole checkpoint", "trainer's"])
def test_a_vae_of_any_naming_holds_the_same_network(random_models, vae_weights, tmp_path, naming):
    write_vae_config(random_models, tmp_path / "config.json")
    weights = vae_weights
    if naming == "old":
        weights = random_models.old_attention_names(vae_weights)
    elif naming != "new":
        weights = single_file_names(vae_weights)
    if naming == "whole checkpoint":
        weights = {f"first_stage_model.{name}": value for name, value in weights.items()}
        weights["model.diffusion_model.input_blocks.0.0.weight"] = torch.zeros(320, 4, 3, 3)
    if naming == "trainer's":
        weights = weights | {"loss.logvar": torch.zeros(()), "model_ema.decay": torch.zeros(())}
    path = tmp_path / "vae.safetensors"
    save_file(weights, path)
    checkpoint = examine(path, "vae")
    assert checkpoint.config == random_models.TINY_VAE
    assert_same_weights(checkpoint.build(), vae_weights)


@pytest.mark.parametrize("naming", ["model.encoder.", "encoder.", "", "openai"])
def test_a_whisper_of_any_naming_holds_the_same_encoder(random_models, tmp_path, naming):
    weights = random_models.whisper_weights(random_models.TINY_WHISPER, random_models.Draw("tiny/whisper", 0))
    ours = {name.removeprefix("model.encoder."): value for name, value in weights.items()}
    path = tmp_path / "whisper.pt"
    if naming == "openai":
        torch.save({"dims": {"n_mels": 80}, "model_state_dict": _openai_names(ours)}, path)
    else:
        torch.save({naming + name: value for name, value in ours.items()}, path)
    assert_same_weights(examine(path, "audio_encoder").build(), ours)


def test_the_parser_drops_its_training_heads(tiny_models_dir):
    path = tiny_models_dir / "face-parse-bisent" / "79999_iter.pth"
    network = examine(path, "face_parser").build()
    assert not any(name.startswith(("conv_out16", "conv_out32")) for name in network.state_dict())
    stored = torch.load(path, weights_only=True)["cp.resnet.conv1.weight"]
    assert torch.equal(network.state_dict()["cp.resnet.conv1.weight"], stored.float())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_weights_are_cast_to_the_dtype(tiny_models_dir, dtype):
    network = examine(tiny_models_dir / "sd-vae" / "diffusion_pytorch_model.bin").build(dtype=dtype)
    assert {parameter.dtype for parameter in network.parameters()} == {dtype}


def test_group_count_comes_from_the_json_the_header_or_the_widths(random_models, vae_weights, unet_weights, tmp_path):
    path = tmp_path / "vae.safetensors"
    save_file(vae_weights, path)
    assert examine(path).config.norm_num_groups == 8  # 32 does not divide the width 16
    unet = tmp_path / "unet.safetensors"
    save_file(unet_weights, unet)
    assert examine(unet).config.norm_num_groups == 32  # as published, though these weights were made for 8
    save_file(unet_weights, unet, metadata={"config": json.dumps(random_models.unet_json(random_models.TINY_UNET))})
    assert examine(unet).config.norm_num_groups == 8
    # A JSON of another network beside the file is not this one's.
    (tmp_path / "config.json").write_text(json.dumps({"block_out_channels": [128, 256], "norm_num_groups": 2}))
    assert examine(path).config.norm_num_groups == 8
    (tmp_path / "config.json").write_text(json.dumps({"block_out_channels": [16, 32, 32, 32], "norm_num_groups": 7}))
    with pytest.raises(ModelFileError, match=r"config\.json: norm_num_groups is 7"):
        examine(path)


def test_the_published_sizes_are_read_from_shapes_alone(tmp_path):
    """A file of the published shapes with one number per tensor: shapes are all that is looked at."""
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in UNet(UNetConfig()).state_dict().items()}
    assert sum(shape.numel() for shape in shapes.values()) == 849_947_844
    assert len(shapes) == 686
    path = tmp_path / "unet.pth"
    torch.save({name: torch.zeros(1).expand(shape) for name, shape in shapes.items()}, path)
    assert examine(path).config == UNetConfig()


def test_an_ordinary_unet_is_named(tmp_path):
    config = UNetConfig(in_channels=4, cross_attention_dim=768)
    with torch.device("meta"):
        shapes = {name: value.shape for name, value in UNet(config).state_dict().items()}
    path = tmp_path / "unet.pth"
    torch.save({name: torch.zeros(1).expand(shape) for name, shape in shapes.items()}, path)
    with pytest.raises(ModelFileError) as caught:
        examine(path, "unet")
    message = str(caught.value)
    assert str(path) in message
    assert "ordinary Stable Diffusion 1.x UNet" in message
    assert "[320, 8, 3, 3]" in message
    assert "conv_in.weight [320, 4, 3, 3]" in message


def test_another_network_is_named(tiny_models_dir):
    path = tiny_models_dir / "sd-vae" / "diffusion_pytorch_model.bin"
    with pytest.raises(ModelFileError, match=r"expected the MuseTalk UNet .* found a Stable Diffusion VAE"):
        examine(path, "unet")


@pytest.mark.parametrize(
    ("tensors", "title"),
    [
        (
            {"backbone.stem.0.conv.weight": (32, 3, 3, 3), "head.final_layer.weight": (133, 1024, 7, 7)},
            "DWPose",
        ),
        ({"conv1_1.weight": (64, 3, 3, 3), "fc6.weight": (1024, 512, 3, 3)}, "S3FD"),
        ({"layer4.1.conv2.weight": (512, 512, 3, 3), "fc.weight": (1000, 512)}, "ResNet-18"),
        (
            {"encoder.conv1.weight": (512, 80, 3), "encoder.layers.0.self_attn.q_proj.weight": (512, 512)},
            "width 512",
        ),
        (
            {"encoder.conv_in.weight": (128, 3, 3, 3), "post_quant_conv.weight": (16, 16, 1, 1)},
            "3 to 16 channels",
        ),
        ({"some.layer": (2, 3)}, "unknown network of 1 tensors"),
        ({"conv1.weight": (), "layers.0.self_attn.q_proj.weight": ()}, "unknown network"),
    ],
)
def test_other_known_files_are_named(tmp_path, tensors, title):
    path = tmp_path / "file.pth"
    torch.save(
        {name: torch.zeros(1).expand(shape) if shape else torch.zeros(()) for name, shape in tensors.items()},
        path,
    )
    with pytest.raises(ModelFileError, match=title):
        examine(path)


def test_missing_unexpected_and_misshapen_tensors_are_summed_up(random_models, unet_weights, tmp_path):
    write_unet_config(random_models, tmp_path / "musetalk.json")
    weights = {name: value for name, value in unet_weights.items() if ".attn1.to_v." not in name}
    weights["lora.up"] = torch.zeros(2)
    weights["conv_norm_out.bias"] = torch.zeros(5)
    path = tmp_path / "unet.safetensors"
    save_file(weights, path)
    with pytest.raises(ModelFileError) as caught:
        examine(path)
    message = str(caught.value)
    missing = len(unet_weights) + 1 - len(weights)
    assert f"{missing} tensors missing: down_blocks.0.attentions.0" in message
    assert f"and {missing - 4} more" in message
    assert "1 unexpected: lora.up" in message
    assert "conv_norm_out.bias [5] instead of [32]" in message


def test_a_unet_without_its_first_level_is_refused(unet_weights, tmp_path):
    path = tmp_path / "unet.safetensors"
    save_file({name: value for name, value in unet_weights.items() if not name.startswith("down_blocks")}, path)
    with pytest.raises(ModelFileError, match=r"down_blocks\.0\.resnets\.0\.conv1\.weight is missing"):
        examine(path)


def test_quantised_weights_are_refused(random_models, unet_weights, tmp_path):
    path = tmp_path / "unet.safetensors"
    save_file(unet_weights | {"conv_in.weight": unet_weights["conv_in.weight"].to(torch.int8)}, path)
    with pytest.raises(ModelFileError, match="quantised"):
        examine(path)


@pytest.mark.parametrize("rank", [0, 1, 5])
@pytest.mark.parametrize("kind", ["unet", "vae", "audio_encoder", "face_parser"])
def test_tensors_of_an_absurd_rank_are_refused(tiny_models, tmp_path, kind, rank):
    path = tmp_path / "file.safetensors"
    save_file({name: torch.zeros((2,) * rank) for name in getattr(tiny_models, kind).state_dict()}, path)
    with pytest.raises(ModelFileError, match=re.escape(str(path))):
        examine(path)


@pytest.mark.parametrize("keep", [0, 1, 100, 0.3, 0.999])
@pytest.mark.parametrize("form", ["pth", "legacy.pth", "safetensors"])
def test_a_cut_file_is_refused(vae_weights, tmp_path, form, keep):
    path = tmp_path / f"vae.{form}"
    if form == "safetensors":
        save_file(vae_weights, path)
    else:
        torch.save(vae_weights, path, _use_new_zipfile_serialization=form == "pth")
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(ModelFileError, match=re.escape(str(path))):
        examine(path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>quota exceeded</html>", "web page"),
        (b"hello", "not a weight file"),
        (b"\x80\x02}q\x00.", None),
        (b"\xff" * 64, None),
    ],
)
def test_what_is_no_weight_file_is_refused(tmp_path, suffix, content, message):
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelFileError, match=message):
        examine(path)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ModelFileError, match="no such file"):
        examine(tmp_path / "unet.pth")
    with pytest.raises(ModelFileError, match="no such file"):
        examine(tmp_path)


@pytest.mark.parametrize("content", [[torch.zeros(2)], {"a": 1}, {}, torch.zeros(3), {3: torch.zeros(1)}])
def test_a_torch_file_without_named_tensors_is_refused(tmp_path, content):
    path = tmp_path / "file.pt"
    torch.save(content, path)
    with pytest.raises(ModelFileError, match="no named tensors"):
        examine(path)


class _Touch:
    """Creates a file when it is unpickled carelessly."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("form", ["zip", "legacy", "plain pickle"])
def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path, form):
    path, trace = tmp_path / "unet.pth", tmp_path / "trace"
    content = {"conv_in.weight": torch.zeros(1), "extra": _Touch(trace)}
    if form == "plain pickle":
        path.write_bytes(pickle.dumps({"extra": _Touch(trace)}, protocol=2))
    else:
        torch.save(content, path, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(ModelFileError, match="would run code" if form != "plain pickle" else str(path)):
        examine(path)
    assert not trace.exists()


def _openai_names(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    names = {
        "self_attn.q_proj": "attn.query",
        "self_attn.k_proj": "attn.key",
        "self_attn.v_proj": "attn.value",
        "self_attn.out_proj": "attn.out",
        "self_attn_layer_norm": "attn_ln",
        "final_layer_norm": "mlp_ln",
        "fc1": "mlp.0",
        "fc2": "mlp.2",
    }
    renamed = {"decoder.positional_embedding": torch.zeros(2)}
    for name, value in weights.items():
        for ours, theirs in names.items():
            name = name.replace(ours, theirs)
        name = re.sub(r"^layers\.", "blocks.", name)
        name = re.sub(r"^layer_norm\.", "ln_post.", name)
        renamed["encoder." + name.replace("embed_positions.weight", "positional_embedding")] = value
    return renamed
