"""Checks of nodes/host inside ComfyUI's own Python, without a server: run by test_host.py.

python host_checks.py MODELS_DIR MINI_DIR --base-directory EMPTY_DIR      (with ComfyUI's folder on PYTHONPATH)
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from in_comfyui import part, report

MODELS, MINI = Path(sys.argv[1]), Path(sys.argv[2])
sys.argv = ["main.py", "--cpu", *sys.argv[3:]]

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing()
import comfy.model_management as mm  # noqa: E402
import comfy.model_patcher  # noqa: E402
import torch  # noqa: E402


def checkpoints(models: Path = MODELS) -> Any:
    return part("musetalk.models.layout").find_models(models).checkpoints


def same_file_is_one_network() -> None:
    """Two loaders share a network for as long as one of them keeps it, and not across precisions."""
    networks, files = part("nodes.host.networks"), checkpoints()
    first = networks.load_network(files["unet"], "auto")
    assert networks.load_network(files["unet"], "fp32") is first
    assert networks.load_network(files["unet"], "bf16") is not first
    vae = networks.load_vae(files["vae"], "auto")
    assert networks.load_vae(files["vae"], "auto") is vae
    del first, vae
    gc.collect()
    assert not networks._loaded


def streamed_weights_compute_the_same() -> None:
    """With no room for any layer, every one fetches its weights when it runs (--lowvram, --novram)."""
    networks, running, files = part("nodes.host.networks"), part("nodes.host.running"), checkpoints()
    inputs = torch.randn(2, 8, 32, 32), torch.randn(2, 50, 384)
    mel = torch.randn(1, 80, 3000)
    for kind, values in (("unet", inputs), ("audio_encoder", (mel,))):
        whole, streamed = (networks.ManagedModel(files[kind], torch.float32, torch.float32) for _ in range(2))
        mm.load_models_gpu([whole.patcher])
        streamed.patcher.load(mm.get_torch_device(), lowvram_model_memory=1)
        streaming = [layer for layer in streamed.network.modules() if hasattr(layer, "prev_comfy_cast_weights")]
        assert len(streaming) > 10, kind
        with torch.inference_mode():
            assert torch.equal(running.Runner(whole)(*values), running.Runner(streamed)(*values)), kind


def face_networks_stream_and_compute_the_same() -> None:
    """DWPose and S3FD of ComfyUI's layers, with no room for any, against the same ones of plain torch."""
    networks, running = part("nodes.host.networks"), part("nodes.host.running")
    for kind, values in (("dwpose", torch.randn(1, 3, 384, 288)), ("s3fd", 50 * torch.randn(1, 3, 64, 96))):
        plain = part("musetalk.models.architecture").make_network(kind, None).eval()
        streamed = networks.ManagedModel(Built(kind, plain), torch.float32, torch.float32)
        streamed.patcher.load(mm.get_torch_device(), lowvram_model_memory=1)
        assert any(hasattr(layer, "prev_comfy_cast_weights") for layer in streamed.network.modules()), kind
        with torch.inference_mode():
            for ours, theirs in zip(flat(running.Runner(streamed)(values)), flat(plain(values)), strict=True):
                assert torch.equal(ours, theirs), kind


class Built:
    """A checkpoint whose weights are those of a network in memory."""

    path = Path("in memory")

    def __init__(self, kind: str, network: torch.nn.Module) -> None:
        self.kind, self.weights = kind, network.state_dict()

    def build(self, device: torch.device, dtype: torch.dtype, operations: Any) -> torch.nn.Module:
        network = part("musetalk.models.architecture").make_network(self.kind, None, operations)
        network.load_state_dict(self.weights)
        return network.to(device, dtype).eval()


def flat(value: Any) -> list[torch.Tensor]:
    return [value] if isinstance(value, torch.Tensor) else [tensor for entry in value for tensor in flat(entry)]


def evicted_by_another_pack_and_back_computes_the_same() -> None:
    """Ours is unloaded, a stranger's model takes its place, and ours comes back for the next run."""
    networks, running, files = part("nodes.host.networks"), part("nodes.host.running"), checkpoints()
    ours = networks.load_network(files["unet"], "fp32")
    inputs = torch.randn(2, 8, 32, 32), torch.randn(2, 50, 384)
    device = mm.get_torch_device()
    stranger = comfy.model_patcher.ModelPatcher(torch.nn.Linear(8, 8), device, mm.unet_offload_device())

    def run() -> torch.Tensor:
        return running.engine_models("v15", model=networks.MuseTalkModel(ours, "v15")).unet(*inputs)

    def loaded() -> list[object]:
        return [entry.model for entry in mm.current_loaded_models]

    with torch.inference_mode():
        before = run()
        assert ours.patcher in loaded()
        mm.unload_all_models()
        mm.load_models_gpu([stranger])
        assert stranger in loaded() and ours.patcher not in loaded()
        assert torch.equal(run(), before)
        assert ours.patcher in loaded()


def half_precision_weights_compute_where_the_device_can() -> None:
    """Weights in fp16, computation in fp32: what a device without fp16 arithmetic is given."""
    networks, running, files = part("nodes.host.networks"), part("nodes.host.running"), checkpoints()
    model = networks.ManagedModel(files["unet"], torch.float16, torch.float32)
    plain = files["unet"].build(dtype=torch.float32)
    inputs = torch.randn(1, 8, 32, 32), torch.randn(1, 50, 384)
    mm.load_models_gpu([model.patcher])
    with torch.inference_mode():
        made, expected = running.Runner(model)(*inputs), plain(*inputs)
    assert made.dtype == torch.float32
    assert (made - expected).abs().max() < 0.05 * expected.abs().max()


def foreign_vaes_are_refused() -> None:
    class Vae:
        latent_channels = 16
        downscale_ratio = 8
        first_stage_model = torch.nn.Identity()

    try:
        part("nodes.host.running").check_vae(Vae())
    except part("musetalk.errors").InputError as error:
        assert "16 latent channels" in str(error)
    else:
        raise AssertionError("accepted")


def core_vae_encodes_as_the_engines(models: Path = MODELS) -> None:
    networks, running, files = part("nodes.host.networks"), part("nodes.host.running"), checkpoints(models)
    core = running.CoreVAE(networks.load_vae(files["vae"], "fp32"))
    own = files["vae"].build()
    images = torch.rand(2, 3, 256, 256) * 2 - 1
    with torch.inference_mode():
        for made, expected in zip(core.encode(images), own.encode(images), strict=True):
            assert (made - expected).abs().max() < 1e-3
        latents = torch.randn(2, 4, 32, 32)
        assert (core.decode(latents) - own.decode(latents)).abs().max() < 1e-3
        assert core.newest is not None and core.newest.shape == (3, 256, 256)


def sizes_that_core_cannot_have_run_in_a_core_vae() -> None:
    """8 groups: the engine's network in core's object, which core's own nodes can call and ComfyUI's manager moves."""
    core_vae_encodes_as_the_engines(MINI)
    vae, own = part("nodes.host.networks").load_vae(checkpoints(MINI)["vae"], "fp32"), checkpoints(MINI)["vae"].build()
    pictures = torch.rand(2, 256, 256, 3)
    with torch.inference_mode():
        latents = vae.encode(pictures)
        expected = own.encode(2 * pictures.movedim(-1, 1) - 1)[0]
        assert latents.shape == (2, 4, 32, 32) and (latents - expected).abs().max() < 1e-3
        assert vae.patcher in [entry.model for entry in mm.current_loaded_models]
        decoded = (own.decode(latents) / 2 + 0.5).clamp(0, 1).movedim(1, -1)
        assert (vae.decode(latents) - decoded).abs().max() < 1e-3
    assert vae.get_sd().keys() == own.state_dict().keys()


def the_included_model_is_found_when_nothing_else_is() -> None:
    """Offered last, taken by auto where there is no UNet, never beside files the user chose, never for v1.0."""
    finding, folders, included = part("nodes.host.finding"), part("nodes.host.folders"), part("musetalk.included")
    included.FOLDER = MINI
    folders.register()
    (unet,) = [entry for entry in part("nodes.loaders").LoadModels.define_schema().inputs if entry.id == "unet"]
    assert unet.options == ["auto", finding.INCLUDED] and unet.default == "auto"
    auto = dict.fromkeys(("unet", "vae", "audio_encoder", "face_parser"), "auto")
    for chosen in (auto, {**auto, "unet": finding.INCLUDED}, {**auto, "face_parser": "none"}):
        found = finding.find(chosen, "auto", download=False)
        assert found.version == "v15" and {file.path.parents[1] for file in found.checkpoints.values()} == {MINI}
    message = refused(lambda: finding.find(auto, "v1", download=False))
    assert "models are missing" in message and "switch on download" in message, message
    folder = folders.download_folder()
    for name in ("sd-vae", "whisper"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(MODELS / name, target_is_directory=True)
    assert finding.find(auto, "auto", download=False).checkpoints["vae"].path.parents[1] == MINI
    chosen = {**auto, "vae": "sd-vae/diffusion_pytorch_model.bin"}
    assert "the MuseTalk UNet: looked for" in refused(lambda: finding.find(chosen, "auto", download=False))
    mixed = {**auto, "unet": finding.INCLUDED, "audio_encoder": "whisper/pytorch_model.bin"}
    assert "parts of different models" in refused(lambda: finding.find(mixed, "auto", download=False))
    (folder / "musetalkV15").symlink_to(MODELS / "musetalkV15", target_is_directory=True)
    found = finding.find(auto, "auto", download=False)
    assert {file.path.parents[1] for file in found.checkpoints.values()} == {folder}
    found = finding.find({**auto, "unet": finding.INCLUDED}, "auto", download=False)
    assert found.checkpoints["unet"].path.parents[1] == found.checkpoints["vae"].path.parents[1] == MINI


def sockets_of_different_models_are_refused() -> None:
    networks, running = part("nodes.host.networks"), part("nodes.host.running")
    model = networks.MuseTalkModel(networks.load_network(checkpoints()["unet"], "fp32"), "v15")
    encoder = networks.load_network(checkpoints(MINI)["audio_encoder"], "fp32")
    message = refused(lambda: running.engine_models("v15", model=model, audio_encoder=encoder))
    assert "384 audio channels" in message and "128, as that of musetalk-mini" in message
    models = running.engine_models("v15", model=model)
    features = torch.zeros(1, 50, 128)
    message = refused(lambda: part("musetalk.inpainting").check_features(models, features))
    assert "make the features with the models that draw" in message


def refused(call: Callable[[], Any]) -> str:
    try:
        call()
    except part("musetalk.errors").MuseTalkError as error:
        return str(error)
    raise AssertionError("accepted")


report(
    same_file_is_one_network,
    streamed_weights_compute_the_same,
    face_networks_stream_and_compute_the_same,
    evicted_by_another_pack_and_back_computes_the_same,
    half_precision_weights_compute_where_the_device_can,
    foreign_vaes_are_refused,
    core_vae_encodes_as_the_engines,
    sizes_that_core_cannot_have_run_in_a_core_vae,
    the_included_model_is_found_when_nothing_else_is,
    sockets_of_different_models_are_refused,
)
