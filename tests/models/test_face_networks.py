"""The files of DWPose and S3FD: found, recognised, and read without running what they name."""

from __future__ import annotations

import functools
import io
import operator
import os
import pickle
import sys
import types
import zipfile
from collections import OrderedDict, defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from musetalk.errors import ModelFileError
from musetalk.models.checkpoints import examine
from musetalk.models.download import download
from musetalk.models.dwpose import DWPose
from musetalk.models.inspect import inspect_models
from musetalk.models.layout import find_face_network, find_models
from musetalk.models.s3fd import S3FD

NETWORKS = {"dwpose": DWPose, "s3fd": S3FD}


def weights_of(kind: str) -> dict[str, torch.Tensor]:
    """One number per tensor, seen in the published shape: small files, quickly made."""
    with torch.device("meta"):
        shapes = {name: (value.shape, value.dtype) for name, value in NETWORKS[kind]().state_dict().items()}
    return {
        name: torch.full((), 0.5 + i / 1000).to(dtype).expand(shape)
        for i, (name, (shape, dtype)) in enumerate(shapes.items())
    }


def assert_holds(network: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    state = network.state_dict()
    assert list(state) == list(weights)
    assert all(torch.equal(state[name], value) for name, value in weights.items())


@pytest.mark.parametrize(("kind", "entries", "size"), [("dwpose", 470, 134_600_436), ("s3fd", 65, 89_836_440)])
def test_the_published_sizes(kind, entries, size):
    with torch.device("meta"):
        state = NETWORKS[kind]().state_dict()
    assert len(state) == entries
    assert sum(value.numel() * value.element_size() for value in state.values()) == size


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_names_are_the_published_ones(shared, kind):
    with torch.device("meta"):
        ours = {name: list(value.shape) for name, value in NETWORKS[kind]().state_dict().items()}
    lines = (shared / "prototypes" / f"{kind}_keys.txt").read_text().split("\n")
    theirs = dict(line.split("\t") for line in lines if line)
    assert {name: str(shape) for name, shape in ours.items()} == theirs


@pytest.mark.parametrize("form", ["zip", "legacy", "wrapped", "safetensors"])
@pytest.mark.parametrize("kind", NETWORKS)
def test_any_form_holds_the_same_network(tmp_path, kind, form):
    weights = weights_of(kind)
    path = tmp_path / ("file.safetensors" if form == "safetensors" else "file.pth")
    if form == "safetensors":
        save_file({name: value.contiguous() for name, value in weights.items()}, path)
    else:
        content = {"meta": {"epoch": 1}, "state_dict": OrderedDict(weights)} if form == "wrapped" else weights
        torch.save(content, path, _use_new_zipfile_serialization=form != "legacy")
    checkpoint = examine(path, kind)
    assert checkpoint.config is None
    network = checkpoint.build()
    assert isinstance(network, NETWORKS[kind])
    assert not network.training
    assert_holds(network, weights)


@pytest.mark.parametrize(
    ("kind", "place"),
    [
        ("dwpose", "dwpose/dw-ll_ucoco_384.pth"),
        ("dwpose", "dwpose/dw-ll_ucoco_384.safetensors"),
        ("dwpose", "a/b/pose.pt"),
        ("s3fd", "s3fd/s3fd-619a316812.pth"),
        ("s3fd", "s3fd/s3fd.pth"),
        ("s3fd", "detector.bin"),
    ],
)
def test_a_face_network_is_found_at_its_place_or_anywhere(tmp_path, kind, place):
    path = tmp_path / place
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".safetensors":
        save_file({name: value.contiguous() for name, value in weights_of(kind).items()}, path)
    else:
        torch.save(weights_of(kind), path)
    assert find_face_network(tmp_path, kind).path == path
    assert find_face_network(tmp_path, "s3fd" if kind == "dwpose" else "dwpose") is None
    official = path.parent.name == kind
    assert (find_face_network(tmp_path, kind, by_signature=False) is not None) == official


def test_where_there_is_none_none_is_found(tmp_path):
    assert find_face_network(tmp_path, "dwpose") is None
    assert find_face_network(tmp_path / "nowhere", "s3fd") is None


def test_another_network_at_the_place_is_an_error(tmp_path):
    path = tmp_path / "dwpose" / "dw-ll_ucoco_384.pth"
    path.parent.mkdir()
    torch.save(weights_of("s3fd"), path)
    with pytest.raises(
        ModelFileError, match=r"dw-ll_ucoco_384\.pth: expected the DWPose .* found the S3FD face detector"
    ):
        find_face_network(tmp_path, "dwpose")


def test_an_incomplete_or_another_pose_network_is_named(tmp_path):
    path = tmp_path / "file.pth"
    weights = weights_of("dwpose")
    torch.save({name: value for name, value in weights.items() if not name.startswith("head.gau")}, path)
    with pytest.raises(ModelFileError, match=r"not the DWPose landmark network .*6 tensors missing: head\.gau"):
        examine(path)
    torch.save(weights | {"head.final_layer.weight": torch.zeros(()).expand(17, 768, 7, 7)}, path)
    with pytest.raises(ModelFileError, match="an RTMPose of 17 points"):
        examine(path, "dwpose")


def test_no_model_version_takes_them(tiny_models_dir, tmp_path):
    for name in ("musetalkV15", "sd-vae", "whisper", "face-parse-bisent"):
        (tmp_path / name).symlink_to(tiny_models_dir / name, target_is_directory=True)
    torch.save(weights_of("dwpose"), tmp_path / "pose.pth")
    torch.save(weights_of("s3fd"), tmp_path / "detector.pth")
    found = find_models(tmp_path)
    assert set(found.checkpoints) == {"unet", "vae", "audio_encoder", "face_parser"}
    kinds = {entry["file"]: (entry["kind"], entry["problem"]) for entry in inspect_models(tmp_path)}
    assert kinds["pose.pth"] == ("dwpose", None)
    assert kinds["detector.pth"] == ("s3fd", None)


def test_the_detector_is_left_to_the_user(tiny_models_dir, tmp_path):
    for file in ("musetalkV15/unet.pth", "sd-vae/diffusion_pytorch_model.bin", "whisper/pytorch_model.bin"):
        (tmp_path / file).parent.mkdir()
        (tmp_path / file).symlink_to(tiny_models_dir / file)
    with pytest.raises(ModelFileError, match=r"not on the Hugging Face hub.*\n.*adrianbulat.*s3fd-619a316812\.pth -> "):
        download(tmp_path, endpoint="http://127.0.0.1:9", notice=lambda line: None, include=["s3fd"])


# Files that name foreign classes


@pytest.fixture
def foreign(monkeypatch) -> types.SimpleNamespace:
    """Objects of a package that is gone when the file is read, as mmengine is on most machines."""
    module = types.ModuleType("mmengine")

    class HistoryBuffer:
        def __init__(self, log: np.ndarray) -> None:
            self.log, self.methods = log, {"mean": HistoryBuffer.mean}

        @classmethod
        def mean(cls) -> None:
            pass

    class ConfigDict(dict):
        pass

    class Log(list):
        pass

    class Slotted:
        __slots__ = ("value",)

    for one in (HistoryBuffer, ConfigDict, Log, Slotted):
        one.__module__, one.__qualname__ = module.__name__, one.__name__
        setattr(module, one.__name__, one)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    slotted = Slotted()
    slotted.value = 3
    return types.SimpleNamespace(
        history=HistoryBuffer(np.arange(5)),
        config=ConfigDict(lr=0.1, model=ConfigDict(depth=1.0, heads=[1, 2])),
        empty=ConfigDict(),
        log=Log([1, Log([2, 3])]),
        slotted=slotted,
        counts=defaultdict(list, train=[1, 2]),
        scalar=np.float64(0.25),
        array=np.ones((2, 3), np.int64),
        place=Path("/tmp"),
        method=functools.partial(operator.add, 1),
    )


@pytest.mark.parametrize("host", [False, True])
def test_a_training_checkpoint_gives_its_weights_alone(tmp_path, foreign, monkeypatch, host):
    weights = weights_of("dwpose")
    path = tmp_path / "dw-ll_ucoco_384.pth"
    torch.save({"message_hub": vars(foreign), "meta": [foreign.config] * 2, "state_dict": weights}, path)
    monkeypatch.delitem(sys.modules, "mmengine")
    # What ComfyUI does: some of numpy's names are then real, others not.
    allowed = [np.dtype, type(np.dtype("float64")), np.float64(0).__reduce__()[0]] if host else []
    torch.serialization.add_safe_globals(allowed)
    before = set(torch.serialization.get_safe_globals())
    try:
        assert_holds(examine(path, "dwpose").build(), weights)
        assert set(torch.serialization.get_safe_globals()) == before
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals([one for one in before if one not in allowed])
    assert "mmengine" not in sys.modules


def test_only_face_networks_may_name_foreign_classes(tmp_path, foreign, vae_weights):
    path = tmp_path / "vae.pth"
    torch.save({"state_dict": vae_weights, "log": foreign.history}, path)
    with pytest.raises(ModelFileError, match=r"refused: it would run code on loading \(.*HistoryBuffer"):
        examine(path)


class _Runs:
    """Calls a function when it is unpickled carelessly."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def _attacks(trace: Path) -> dict[str, object]:
    return {
        "os.system": _Runs(os.system, f"touch {trace}"),
        "exec": _Runs(exec, f"open({str(trace)!r}, 'w')"),
        "getattr": _Runs(getattr, _Runs(__import__, "pathlib"), "Path"),
        "touch": _Runs(Path.touch, trace),
        "partial": _Runs(functools.partial(os.system, f"touch {trace}")),
        "nested": {"deep": [(_Runs(eval, f"open({str(trace)!r}, 'w')"),)]},
    }


def read_or_refused(path: Path, trace: Path) -> None:
    try:
        network = examine(path, "dwpose").build()
    except ModelFileError as error:
        assert str(path) in str(error)
    else:
        assert_holds(network, weights_of("dwpose"))
    assert not trace.exists()


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("where", ["beside", "among the weights"])
@pytest.mark.parametrize("form", ["zip 2", "zip 3", "zip 4", "zip 5", "legacy"])
@pytest.mark.parametrize("attack", _attacks(Path("trace")))
def test_code_in_a_file_shaped_like_dwpose_never_runs(tmp_path, attack, form, where):
    trace, path = tmp_path / "trace", tmp_path / "pose.pth"
    weights = weights_of("dwpose")
    harm = _attacks(trace)[attack]
    content = {"state_dict": weights, "log": harm} if where == "beside" else weights | {"backbone.log": harm}
    if form == "legacy":
        torch.save(content, path, _use_new_zipfile_serialization=False)
    else:
        torch.save(content, path, pickle_protocol=int(form[-1]))
    read_or_refused(path, trace)


# Opcodes that torch.save does not write, each of which calls or changes something where pickle itself reads them. What
# they leave on the stack lies below the state dict. X%s is the command as a string.
_OPCODES = {
    "posix": b"cposix\nsystem\nX%s\x85R",
    "os": b"cos\nsystem\nX%s\x85R",
    "exec": b"cbuiltins\nexec\nX%s\x85R",
    "python 2": b"c__builtin__\nexecfile\nX%s\x85R",
    "inst": b"(X%sios\nsystem\n",
    "obj": b"(cos\nsystem\nX%so",
    "stack global": b"\x8c\x02os\x8c\x06system\x93X%s\x85R",
    "newobj": b"csubprocess\nPopen\nX%s\x85\x81",
    "newobj ex": b"csubprocess\nPopen\n)}X\x04\x00\x00\x00argsX%ss\x92",
    "extension": b"\x82\x01X%s\x85R",
    "import": b"c__builtin__\n__import__\nX\x02\x00\x00\x00os\x85RX%s\x85R",
    "setstate": b"cmusetalk.models.inert\nInert\n)\x81}X\x0c\x00\x00\x00__setstate__cbuiltins\nexec\nsbX%sb",
    "attribute": b"ctorch.storage\nos.system\nX%s\x85R",
    "memo": b"cbuiltins\nexec\nq\xff0h\xffX%s\x85R",
    "mark": b"((((((X%s",
    "empty": b"0000R",
    "append to nothing": b"X%sa",
    "set on a list": b"ccode\nThing\n)\x81(X%sKesccode\nThing\n)\x81(X%sX%su",
}


@pytest.mark.parametrize("opcodes", _OPCODES)
def test_hand_made_pickles_are_read_or_refused(tmp_path, opcodes):
    trace, path, clean = tmp_path / "trace", tmp_path / "pose.pth", io.BytesIO()
    torch.save(weights_of("dwpose"), clean)
    command = f"open({str(trace)!r}, 'w')".encode() if "exec" in opcodes else f"touch {trace}".encode()
    harm = _OPCODES[opcodes].replace(b"X%s", b"X" + len(command).to_bytes(4, "little") + command)
    with zipfile.ZipFile(clean) as source, zipfile.ZipFile(path, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename.endswith("/data.pkl"):
                assert content[:2] == pickle.PROTO + b"\x02"
                content = content[:2] + harm + content[2:]
            target.writestr(entry.filename, content)
    read_or_refused(path, trace)


def test_a_damaged_training_checkpoint_is_refused(tmp_path, foreign):
    path = tmp_path / "pose.pth"
    torch.save({"state_dict": weights_of("dwpose"), "log": foreign.history}, path)
    whole = path.read_bytes()
    for keep in (0.3, 0.9, 0.999):
        path.write_bytes(whole[: int(keep * len(whole))])
        with pytest.raises(ModelFileError, match="cut short"):
            examine(path)
