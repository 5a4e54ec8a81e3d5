"""Finding the files of a version in a folder, and loading them."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from musetalk.errors import InputError, ModelFileError
from musetalk.models import load_models
from musetalk.models.layout import find_models
from musetalk.models.load import resolve_device, resolve_dtype

OFFICIAL = {
    "unet": "musetalkV15/unet.pth",
    "vae": "sd-vae/diffusion_pytorch_model.bin",
    "audio_encoder": "whisper/pytorch_model.bin",
    "face_parser": "face-parse-bisent/79999_iter.pth",
}
# Where the config has to lie for a network whose shapes do not give its group count.
CONFIGS = {"unet": "musetalkV15/musetalk.json", "vae": "sd-vae/config.json"}
LAYOUTS = {
    "v15": (OFFICIAL, "v15"),
    "v1": (
        OFFICIAL
        | {
            "unet": "musetalk/pytorch_model.bin",
            "vae": "sd-vae-ft-mse/diffusion_pytorch_model.bin",
            "audio_encoder": "whisper-tiny/pytorch_model.bin",
            "face_parser": "face-parse-bisenet/79999_iter.pth",
        },
        "v1",
    ),
    "single-file VAE on top": (OFFICIAL | {"vae": "vae-ft-mse-840000-ema-pruned.ckpt"}, "v15"),
    "single-file VAE in vae": (OFFICIAL | {"vae": "vae/vae-ft-mse-840000-ema-pruned.pt"}, "v15"),
    "own names, flat": (
        {
            "unet": "musetalk_v1.0.pt",
            "vae": "mse.bin",
            "audio_encoder": "ears.pt",
            "face_parser": "parser.pth",
        },
        "v1",
    ),
    "own names, deep": (
        {
            "unet": "TMElyralab/MuseTalk-1.5/net.pt",
            "vae": "a/b/c.pt",
            "audio_encoder": "a/w.pt",
            "face_parser": "a/b/p.pth",
        },
        "v15",
    ),
}


def lay_out(models_dir: Path, out: Path, places: dict[str, str]) -> None:
    for kind, place in places.items():
        target = out / place
        target.parent.mkdir(parents=True, exist_ok=True)
        target.hardlink_to(models_dir / OFFICIAL[kind])
        if kind in CONFIGS:
            target.with_suffix(".json").write_bytes((models_dir / CONFIGS[kind]).read_bytes())


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_gives_the_same_networks(tiny_models_dir, tiny_models, tmp_path, name, caplog):
    places, version = LAYOUTS[name]
    lay_out(tiny_models_dir, tmp_path, places)
    models = load_models(tmp_path, device="cpu")
    assert models.version == version
    assert models.files == {kind: tmp_path / place for kind, place in places.items()}
    for kind in OFFICIAL:
        theirs = getattr(tiny_models, kind).state_dict()
        for key, value in getattr(models, kind).state_dict().items():
            assert torch.equal(value, theirs[key]), key
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("weight_format", ["pth", "safetensors"])
@pytest.mark.parametrize("version", ["v15", "v1"])
def test_the_generator_writes_what_the_loader_reads(random_models, tmp_path, version, weight_format):
    random_models.make_random_models(tmp_path, version=version, weight_format=weight_format, face_parser=False)
    found = find_models(tmp_path)
    assert found.version == version
    assert set(found.checkpoints) == {"unet", "vae", "audio_encoder"}


def test_everything_missing_is_told_at_once(tmp_path):
    (tmp_path / "notes.bin").write_text("not weights")
    with pytest.raises(ModelFileError) as caught:
        load_models(tmp_path, device="cpu")
    message = str(caught.value)
    for expected in (
        "the MuseTalk UNet: looked for musetalkV15/unet",
        "musetalk/pytorch_model.bin",
        "the Stable Diffusion VAE: looked for sd-vae/",
        "the Whisper-tiny encoder: looked for whisper/",
        "notes.bin: not a weight file",
        f"python -m musetalk download --models {tmp_path}",
    ):
        assert expected in message
    assert "BiSeNet" not in message


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ModelFileError, match=r"nowhere: no such folder.*musetalk download"):
        load_models(tmp_path / "nowhere")


def test_without_a_face_parser_the_rest_loads(tiny_models_dir, tmp_path):
    lay_out(tiny_models_dir, tmp_path, {kind: place for kind, place in OFFICIAL.items() if kind != "face_parser"})
    models = load_models(tmp_path, device="cpu")
    assert models.face_parser is None
    assert "face_parser" not in models.files


def test_a_wrong_file_at_an_official_place_is_an_error(tiny_models_dir, without_unet):
    target = without_unet / "musetalkV15" / "unet.pth"
    target.parent.mkdir()
    target.hardlink_to(tiny_models_dir / OFFICIAL["vae"])
    with pytest.raises(ModelFileError, match=r"unet\.pth: expected the MuseTalk UNet"):
        load_models(without_unet)


def test_what_else_lies_there_is_told_when_the_unet_is_missing(without_unet):
    wrong = {
        "conv_in.weight": torch.zeros(320, 4, 3, 3),
        "mid_block.attentions.0.proj_in.weight": torch.zeros(1),
        "x.attn2.to_k.weight": torch.zeros(320, 768),
    }
    save_file(wrong, without_unet / "sd15.safetensors")
    with pytest.raises(ModelFileError, match=r"sd15\.safetensors: found an ordinary Stable Diffusion 1\.x UNet"):
        load_models(without_unet)


def write_unet(
    folder: Path, place: str, weights: dict[str, torch.Tensor], metadata: dict[str, str] | None = None
) -> Path:
    path = folder / place
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(weights, path, metadata=metadata)
    return path


@pytest.mark.parametrize(
    ("claims", "asked", "expected"),
    [
        ({"musetalkV15/unet.safetensors": None, "musetalk/pytorch_model.safetensors": None}, "auto", "v15"),
        ({"musetalkV15/unet.safetensors": None, "musetalk/pytorch_model.safetensors": None}, "v1", "v1"),
        ({"musetalk/pytorch_model.safetensors": None, "best-v1.5.safetensors": None}, "auto", "v15"),
        ({"musetalk/pytorch_model.safetensors": None, "mine.safetensors": None}, "auto", "v1"),
        ({"mine.safetensors": "v1"}, "auto", "v1"),
        ({"mine.safetensors": "1.0"}, "auto", "v1"),
        ({"x_v1.safetensors": "v15"}, "auto", "v15"),
        ({"musetalkV15/unet.safetensors": "v1"}, "auto", "v1"),
        ({"conv1.safetensors": None}, "v1", "v1"),
        ({"musetalk/unet.safetensors": None}, "v15", "v15"),
    ],
)
def test_the_version_is_what_metadata_or_else_names_say(without_unet, unet_weights, claims, asked, expected, caplog):
    for place, claim in claims.items():
        write_unet(without_unet, place, unet_weights, None if claim is None else {"musetalk_version": claim})
    assert find_models(without_unet, asked).version == expected
    assert not caplog.records


def test_an_unnamed_unet_is_taken_as_v15_with_a_warning(without_unet, unet_weights, caplog):
    path = write_unet(without_unet, "conv1.safetensors", unet_weights)
    assert find_models(without_unet).version == "v15"
    assert str(path) in caplog.text
    assert "taken as v15" in caplog.text


@pytest.mark.parametrize(
    ("place", "claim", "asked"),
    [
        ("musetalkV15/unet.safetensors", None, "v1"),
        ("musetalkV15/unet.safetensors", "v1", "v15"),
        ("v1.safetensors", None, "v15"),
    ],
)
def test_the_other_version_does_not_serve(without_unet, unet_weights, place, claim, asked):
    write_unet(without_unet, place, unet_weights, None if claim is None else {"musetalk_version": claim})
    other = "v15" if asked == "v1" else "v1"
    with pytest.raises(ModelFileError, match=rf"(?s)a MuseTalk {other} UNet.*asked for.*--version {asked}") as caught:
        find_models(without_unet, asked)
    assert "VAE: looked for" not in str(caught.value)


def test_precision_of_each_network(tiny_models_dir, caplog):
    models = load_models(tiny_models_dir, device="cpu", dtype="fp16")
    assert models.dtype == torch.float16
    assert models.unet.conv_in.weight.dtype == torch.float16
    assert models.audio_encoder.conv1.weight.dtype == torch.float16
    assert models.face_parser.conv_out.conv_out.weight.dtype == torch.float32
    assert "fp16 on the CPU" in caplog.text
    assert models.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fp32", torch.float32),
        ("BF16", torch.bfloat16),
        ("float16", torch.float16),
        (torch.bfloat16, torch.bfloat16),
    ],
)
def test_dtype_names(name, expected):
    assert resolve_dtype(name, torch.device("cpu")) == expected


def test_default_dtypes():
    assert resolve_dtype(None, torch.device("cuda")) == torch.float16
    assert resolve_dtype(None, torch.device("cpu")) == torch.float32
    assert resolve_dtype(None, torch.device("mps")) == torch.float32


@pytest.mark.parametrize("dtype", ["int8", "fp8", "", torch.int8, torch.float64])
def test_unknown_dtypes_are_refused(dtype):
    with pytest.raises(InputError, match="dtype is"):
        resolve_dtype(dtype, torch.device("cpu"))


def test_unknown_devices_and_versions_are_refused_before_anything_is_read(tmp_path):
    with pytest.raises(InputError, match="device is 'gpu'"):
        load_models(tmp_path, device="gpu")
    with pytest.raises(InputError, match="version is 'v2'"):
        load_models(tmp_path, version="v2", device="cpu")
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no CUDA device"):
            resolve_device("cuda:0")
