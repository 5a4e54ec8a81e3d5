"""musetalk-mini, the model in the package: when it is meant, what is said of a damaged one, where it is packed."""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path

import pytest
import torch

from musetalk import included, load_models
from musetalk.errors import InputError, ModelFileError
from musetalk.models.layout import find_models

ROOT = Path(__file__).resolve().parents[2]
UNET = "musetalkV15/unet.safetensors"


@pytest.fixture
def mini(mini_models_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Random weights in the place of the included model, in a folder whose files a test may break."""
    folder = tmp_path / "package" / "mini"
    for path in mini_models_dir.glob("*/*"):
        (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
        (folder / path.parent.name / path.name).symlink_to(path)
    monkeypatch.setattr(included, "FOLDER", folder)
    monkeypatch.chdir(tmp_path)
    return folder


def test_the_word_is_the_model_and_a_path_is_a_path(mini, caplog):
    assert included.models_folder("mini") == mini
    assert included.models_folder("models") == Path("models")
    assert not caplog.records
    Path("mini").mkdir()
    assert included.models_folder("mini") == mini and "write ./mini" in caplog.text
    for given in ("./mini", Path("mini"), str(Path("mini").resolve())):
        assert included.models_folder(given) == Path(given) != mini


def test_it_is_the_default_where_there_is_no_models_folder(mini, monkeypatch):
    assert included.default_folder() == included.default_folder("v15") == mini
    assert included.default_folder("v1") == Path("models")
    Path("models").mkdir()
    assert included.default_folder() == Path("models")
    Path("models").rmdir()
    monkeypatch.setattr(included, "FOLDER", mini / "nowhere")
    assert included.default_folder() == Path("models")


def test_half_precision_files_are_whole_networks_of_their_own_sizes(mini, random_models):
    models = load_models("mini", device="cpu")
    assert (models.version, models.face_parser, models.dtype) == ("v15", None, torch.float32)
    assert models.unet.config == random_models.MINI_UNET
    assert models.vae.config == random_models.MINI_VAE
    assert models.audio_encoder.config == random_models.MINI_WHISPER
    assert {path.parents[1] for path in models.files.values()} == {mini}
    assert find_models(mini).checkpoints["unet"].dtypes == {torch.float16}


def test_it_is_no_v1(mini):
    with pytest.raises(InputError, match=r"musetalk-mini is a v15 model.*download --models models --version v1"):
        load_models("mini", "v1")
    with pytest.raises(InputError, match="version is 'v2'; use"):
        load_models("mini", "v2")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "lacks the MuseTalk UNet"),
        (b"", "the file is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n", "a Git LFS pointer"),
        (b"\x00" * 100, "not a weight file"),
    ],
)
def test_a_damaged_copy_says_so(mini, content, reason):
    (mini / UNET).unlink()
    if content is not None:
        (mini / UNET).write_bytes(content)
    with pytest.raises(ModelFileError) as caught:
        load_models("mini")
    message = str(caught.value)
    assert message.startswith("musetalk-mini") and reason in message and "install the package again" in message
    assert "python -m musetalk download --models models" in message


def test_a_package_without_it_says_so_and_offers_it_nowhere(mini, monkeypatch):
    monkeypatch.setattr(included, "FOLDER", mini / "nowhere")
    with pytest.raises(ModelFileError, match=r"musetalk-mini.*nowhere: no such folder.*install the package again"):
        load_models("mini")
    with pytest.raises(ModelFileError) as caught:
        load_models("models")
    assert "mini" not in str(caught.value).replace(str(mini), "")


def test_missing_models_are_told_of_it(mini):
    with pytest.raises(ModelFileError, match=r"mini for the small one that is included.*musetalk download"):
        load_models("models")
    Path("models").mkdir()
    with pytest.raises(ModelFileError, match=r"try without them: --models mini(?s:.*)to fetch them: "):
        load_models("models")
    with pytest.raises(ModelFileError) as caught:
        load_models("models", "v1")
    assert "--models mini" not in str(caught.value)


def test_parts_of_different_models_are_refused(mini_models_dir, tiny_models_dir, tmp_path):
    for name, source in (("whisper", mini_models_dir), ("sd-vae", tiny_models_dir), ("musetalkV15", tiny_models_dir)):
        (tmp_path / name).symlink_to(source / name, target_is_directory=True)
    with pytest.raises(ModelFileError, match=r"unet\.pth listens to 384 .*model\.safetensors gives 128"):
        find_models(tmp_path)


def test_archives_of_the_package_carry_it():
    """The wheel's package data and what the Comfy registry leaves out."""
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    patterns = re.findall(r'"([^"]+)"', project.split("[tool.setuptools.package-data]")[1].split("\n")[1])
    ignored = [line.strip("/") for line in (ROOT / ".comfyignore").read_text("utf-8").splitlines()[1:] if line]
    for file in ("README.md", UNET, "musetalkV15/musetalk.json", "whisper/config.json"):
        place = Path("models/mini", file)
        assert any(place.match(pattern) and pattern.startswith("models/mini") for pattern in patterns), file
        assert not any(fnmatch(part, pattern) for part in ("musetalk", *place.parts) for pattern in ignored), file


def test_the_real_one_loads():
    if not (included.FOLDER / UNET).is_file():
        pytest.skip(f"NOT RUN: {included.FOLDER} holds no trained musetalk-mini yet")
    models = load_models("mini", device="cpu")
    assert models.unet.config.cross_attention_dim == models.audio_encoder.config.channels == 128
    assert sum(path.stat().st_size for path in included.FOLDER.rglob("*")) < 40e6
