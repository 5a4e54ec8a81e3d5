"""The engine's `Models` on top of networks that ComfyUI manages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import comfy.model_management as mm
import torch

from ...musetalk.errors import InputError
from ...musetalk.face.published import DWPoseLandmarks
from ...musetalk.inpainting import listeners
from ...musetalk.latents import FACE_SIZE
from ...musetalk.models import Models
from ...musetalk.models.syncnet import SyncNet
from ...musetalk.models.vae import LOGVAR_RANGE
from ...musetalk.profile import Version
from .networks import FaceModels, ManagedModel, MuseTalkModel, manage_syncnet

# Room for the activations of the published networks, as values of their dtype, attention not fused: generous.
_UNET_VALUES = 10 << 20  # one 32 x 32 latent
_ENCODER_VALUES = 40 << 20  # 30 s of sound
_PARSER_VALUES = 80 << 20  # one 512 x 512 crop
_POSE_VALUES = 12 << 20  # one 288 x 384 view
_POSE_BATCH = 8
_GATE_VALUES = 3 * 64  # one pixel of a whole frame
_SYNCNET_BYTES = 1 << 30  # a batch of windows, in float32


def engine_models(
    version: Version,
    *,
    model: MuseTalkModel | None = None,
    vae: Any = None,
    audio_encoder: ManagedModel | None = None,
    face_models: FaceModels | None = None,
    batch_size: int = 1,
    gated: tuple[int, int] | None = None,
) -> Models:
    """Bring the networks a stage needs to the device and return them as the engine calls them.

    A network that is not given is None in the result. Inputs are handed over in float32; every network casts them to
    what it computes in. batch_size: faces at once, for which ComfyUI makes room. gated: width and height of the frames
    that the gate of `landmark_source` looks at; None where it is not asked. Raises InputError for networks that do not
    fit together.
    """
    parser = None if face_models is None else face_models.parser
    pose = None if face_models is None else face_models.pose
    gate = None if face_models is None or gated is None else face_models.gate
    unet = None if model is None else model.unet
    if unet is not None and audio_encoder is not None:
        _check_widths(unet, audio_encoder)
    networks = [network for network in (unet, audio_encoder, parser, pose, gate) if network is not None]
    patchers = [network.patcher for network in networks]
    needs = [0.0]
    if unet is not None:
        needs.append(batch_size * _UNET_VALUES * mm.dtype_size(unet.compute_dtype))
    if audio_encoder is not None:
        needs.append(_ENCODER_VALUES * mm.dtype_size(audio_encoder.compute_dtype))
    if parser is not None:
        needs.append(_PARSER_VALUES * mm.dtype_size(parser.compute_dtype))
    if pose is not None:
        needs.append(_POSE_BATCH * _POSE_VALUES * mm.dtype_size(pose.compute_dtype))
    if gate is not None and gated is not None:
        needs.append(gated[0] * gated[1] * _GATE_VALUES * mm.dtype_size(gate.compute_dtype))
    if vae is not None:
        check_vae(vae)
        patchers.append(vae.patcher)
        # Two pictures per face are encoded at once: the masked one and the whole one.
        encode = vae.memory_used_encode((2 * batch_size, 3, FACE_SIZE, FACE_SIZE), vae.vae_dtype)
        decode = vae.memory_used_decode((batch_size, 4, FACE_SIZE // 8, FACE_SIZE // 8), vae.vae_dtype)
        needs += [2 * batch_size * encode, batch_size * decode]
    # The networks take turns, so their activations share one room.
    mm.load_models_gpu(patchers, memory_required=max(needs))
    return Models(
        unet=cast(Any, unet and Runner(unet)),
        vae=cast(Any, None if vae is None else CoreVAE(vae)),
        audio_encoder=cast(Any, audio_encoder and Runner(audio_encoder)),
        face_parser=cast(Any, parser and Runner(parser)),
        version=version,
        device=networks[0].device if networks else getattr(vae, "device", torch.device("cpu")),
        dtype=torch.float32,
        files={},
    )


def landmark_source(face_models: FaceModels) -> DWPoseLandmarks | None:
    """What finds landmarks with networks that `engine_models` has brought to the device; None for the built-in mesh."""
    pose, gate = face_models.pose, face_models.gate
    if pose is None:
        return None
    return DWPoseLandmarks(cast(Any, Runner(pose)), cast(Any, gate and Runner(gate)), batch_size=_POSE_BATCH)


@contextmanager
def syncnet_on_device(path: Path | None) -> Iterator[SyncNet | None]:
    """SyncNet where ComfyUI computes, for as long as the context lasts; None for no file. Raises ModelFileError."""
    if path is None:
        yield None
        return
    patcher = manage_syncnet(path)
    mm.load_models_gpu([patcher], memory_required=_SYNCNET_BYTES)
    yield patcher.model


def check_vae(vae: Any) -> None:
    """Refuse a VAE whose latents are not Stable Diffusion 1's: 4 channels, an eighth of the side. Raises InputError."""
    channels, ratio = getattr(vae, "latent_channels", None), getattr(vae, "downscale_ratio", None)
    if channels != 4 or ratio != 8 or not hasattr(getattr(vae, "first_stage_model", None), "decode"):
        raise InputError(
            f"the VAE has {channels} latent channels at 1/{ratio} of the size; MuseTalk needs Stable Diffusion 1's "
            "(4 channels, 1/8): connect Load MuseTalk Models, or load sd-vae-ft-mse"
        )


def _check_widths(unet: ManagedModel, audio_encoder: ManagedModel) -> None:
    wanted, given = unet.network.config.cross_attention_dim, audio_encoder.network.config.channels
    if wanted != given:
        raise InputError(
            f"the model listens to {wanted} audio channels, as {listeners(wanted)} do, but the audio encoder gives "
            f"{given}, as that of {listeners(given)}; connect both from one Load MuseTalk Models"
        )


class Runner:
    """A managed network as a function that takes its inputs from anywhere."""

    def __init__(self, model: ManagedModel) -> None:
        self._model = model

    @property
    def config(self) -> Any:
        """The network's sizes."""
        return self._model.network.config

    def __call__(self, *inputs: Any) -> Any:
        with _honest_about_memory():
            return self._model.network(*map(self._placed, inputs))

    def look(self, latents: torch.Tensor) -> Any:
        """The UNet's, see :meth:`musetalk.models.unet.UNet.look`."""
        with _honest_about_memory():
            return self._model.network.look(self._placed(latents))

    def listen(self, seen: Any, tokens: torch.Tensor) -> torch.Tensor:
        """The UNet's; ``seen`` is where the network computes already."""
        with _honest_about_memory():
            return self._model.network.listen(seen, self._placed(tokens))

    def parameters(self) -> Iterator[torch.Tensor]:
        """One empty tensor that tells where the network computes; its weights may be elsewhere until then."""
        yield torch.empty(0, device=self._model.device)

    def _placed(self, value: Any) -> Any:
        """A tensor where the network computes; numbers in its dtype, positions and what is no tensor as they are."""
        if not isinstance(value, torch.Tensor):
            return value
        return value.to(self._model.device, self._model.compute_dtype if value.is_floating_point() else value.dtype)


class CoreVAE:
    """A core VAE with the engine's interface: moments out of `encode`, pictures in [-1, 1] on both ends."""

    def __init__(self, vae: Any) -> None:
        self._vae = vae
        self.newest: torch.Tensor | None = None
        """The last picture decoded, ``[3, H, W]`` in [-1, 1] on the device, for previews."""

    def encode(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        network = self._vae.first_stage_model
        with _honest_about_memory():
            # Contiguous for the reason told in AutoencoderKL.encode.
            images = self._placed(images.contiguous())
            if not hasattr(network, "encoder"):  # an approximate VAE has no posterior, only its mean
                mean = network.encode(images).float()
                return mean, torch.full_like(mean, LOGVAR_RANGE[0])
            moments = network.encoder(images)
            if hasattr(network, "quant_conv"):
                moments = network.quant_conv(moments)
        mean, logvar = moments.float().chunk(2, dim=1)
        return mean, logvar.clamp(*LOGVAR_RANGE)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        with _honest_about_memory():
            # Contiguous like core's weights: a third faster on a CPU.
            images = self._vae.first_stage_model.decode(self._placed(latents.contiguous())).float()
        self.newest = images[-1]
        return images

    def _placed(self, values: torch.Tensor) -> torch.Tensor:
        return values.to(self._vae.device, self._vae.vae_dtype)


@contextmanager
def _honest_about_memory() -> Iterator[None]:
    """Out of memory is always torch.OutOfMemoryError, on which the engine halves its batch; drivers vary."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        if hasattr(mm, "is_oom") and mm.is_oom(error):
            raise torch.OutOfMemoryError(str(error)) from error
        raise
