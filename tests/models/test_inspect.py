"""What `inspect` says of a folder."""

from __future__ import annotations

import json

import pytest

from musetalk.errors import ModelFileError
from musetalk.models.inspect import inspect_models


def test_every_file_is_described(tiny_models_dir, tiny_models):
    entries = {entry["file"]: entry for entry in inspect_models(tiny_models_dir)}
    assert {entry["kind"] for entry in entries.values()} == {"unet", "vae", "audio_encoder", "face_parser"}
    unet = entries["musetalkV15/unet.pth"]
    assert unet["version"] == "v15"
    assert unet["dtype"] == "float32"
    assert unet["parameters"] == sum(parameter.numel() for parameter in tiny_models.unet.parameters())
    assert unet["size"] == (tiny_models_dir / "musetalkV15" / "unet.pth").stat().st_size
    assert unet["config"]["norm_num_groups"] == 8
    assert unet["problem"] is None
    parser = entries["face-parse-bisent/79999_iter.pth"]
    assert parser["parameters"] == sum(parameter.numel() for parameter in tiny_models.face_parser.parameters())
    json.dumps(list(entries.values()))


def test_an_unusable_file_says_why(tmp_path):
    (tmp_path / "broken.safetensors").write_bytes(b"\x00" * 10)
    (tmp_path / "notes.txt").write_text("not looked at")
    (entry,) = inspect_models(tmp_path)
    assert entry["file"] == "broken.safetensors"
    assert entry["kind"] is None
    assert "broken.safetensors" in entry["problem"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ModelFileError, match="nowhere: no such folder"):
        inspect_models(tmp_path / "nowhere")
