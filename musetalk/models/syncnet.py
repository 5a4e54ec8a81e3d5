"""LatentSync's SyncNet: do these lips say this sound? Used only in training and evaluation (spec section 8.5).

Parameter names are those of the published state dict. Both encoders end in a ReLU, so the similarity of a picture
and a sound lies in [0, 1] and is never negative.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..errors import InputError, ModelFileError
from .weight_file import WeightFile

FRAMES = 16
_GROUPS = 32
_EPS = 1e-6
_SHOWN_PROBLEMS = 4


@dataclass(frozen=True)
class EncoderConfig:
    """One encoder: input channels, and for each block its output channels and its (vertical, horizontal) stride."""

    channels_in: int
    channels: tuple[int, ...]
    strides: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class SyncNetConfig:
    """Both encoders; the last channel counts have to agree."""

    visual: EncoderConfig
    audio: EncoderConfig


# configs/syncnet/syncnet_16_pixel.yaml of bytedance/LatentSync: what latentsync_syncnet.pt holds.
PUBLISHED = SyncNetConfig(
    visual=EncoderConfig(
        channels_in=3 * FRAMES,
        channels=(64, 128, 256, 256, 512, 1024, 2048, 2048),
        strides=((1, 2), (2, 2), (2, 2), (2, 2), (2, 2), (2, 2), (2, 2), (2, 2)),
    ),
    audio=EncoderConfig(
        channels_in=1,
        channels=(32, 64, 128, 256, 512, 1024, 2048),
        strides=((2, 1), (2, 2), (2, 2), (1, 1), (2, 2), (2, 2), (2, 3)),
    ),
)


class SyncNet(nn.Module):
    """Sixteen frames and their sound to unit vectors, alike when they belong together.

    config: sizes; the default is the published network, 371,766,496 parameters.
    """

    def __init__(self, config: SyncNetConfig = PUBLISHED) -> None:
        super().__init__()
        self.audio_encoder = Encoder(config.audio)
        self.visual_encoder = Encoder(config.visual)

    def forward(self, frames: Tensor, mel: Tensor) -> tuple[Tensor, Tensor]:
        """``frames`` and ``mel`` as in `embed_frames` and `embed_mel` -> two float [B, 2048] of unit length."""
        return self.embed_frames(frames), self.embed_mel(mel)

    def embed_frames(self, frames: Tensor) -> Tensor:
        """Lower halves of 16 frames, float [B, 48, 128, 256] as `stack_lower_halves` makes them -> [B, 2048]."""
        return F.normalize(self.visual_encoder(frames).flatten(1), dim=1)

    def embed_mel(self, mel: Tensor) -> Tensor:
        """The sound of those frames, float [B, 1, 80, 52] of `musetalk.audio.sync_mel` -> [B, 2048]."""
        return F.normalize(self.audio_encoder(mel).flatten(1), dim=1)


class Encoder(nn.Module):
    """Residual blocks that shrink the input to a single place."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.conv_in = nn.Conv2d(config.channels_in, config.channels[0], 3, padding=1)
        inputs = (config.channels[0], *config.channels[:-1])
        self.down_blocks = nn.ModuleList(
            DownBlock(*sizes) for sizes in zip(inputs, config.channels, config.strides, strict=True)
        )
        self.norm_out = nn.GroupNorm(_GROUPS, config.channels[-1], _EPS)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, H, W] -> [B, C_out, h, w], not negative."""
        x = self.conv_in(x)
        for block in self.down_blocks:
            x = block(x)
        return F.relu(self.norm_out(x))


class DownBlock(nn.Module):
    """A residual block, then a strided convolution unless the stride is (1, 1)."""

    def __init__(self, channels_in: int, channels_out: int, stride: tuple[int, int]) -> None:
        super().__init__()
        self.norm1 = nn.GroupNorm(_GROUPS, channels_in, _EPS)
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.norm2 = nn.GroupNorm(_GROUPS, channels_out, _EPS)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.conv_shortcut = nn.Conv2d(channels_in, channels_out, 1) if channels_in != channels_out else None
        self.downsample_conv = None if stride == (1, 1) else nn.Conv2d(channels_out, channels_out, 3, stride)
        # An axis that is shrunk is padded at its end only; one that keeps its length, at both ends.
        before_y, before_x = (int(step == 1) for step in stride)
        self._padding = (before_x, 1, before_y, 1)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C_in, H, W] -> [B, C_out, H / stride, W / stride]."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        h = h + (x if self.conv_shortcut is None else self.conv_shortcut(x))
        return h if self.downsample_conv is None else self.downsample_conv(F.pad(h, self._padding))


def stack_lower_halves(frames: Tensor) -> Tensor:
    """Consecutive face crops as SyncNet wants them: lower halves, frame by frame along the channels.

    frames: float [B, T, 3, H, W], RGB in [-1, 1], H even; 256 x 256 and T = 16 for the published network.
    Returns float [B, 3 T, H / 2, W].
    """
    return frames[..., frames.shape[-2] // 2 :, :].flatten(1, 2)


def similarity(visual: Tensor, audio: Tensor) -> Tensor:
    """Cosine of the angle between unit vectors: float [B, D] twice -> [B]."""
    return (visual * audio).sum(dim=1)


def load_syncnet(path: Path | str, device: torch.device | str = "cpu", config: SyncNetConfig = PUBLISHED) -> SyncNet:
    """SyncNet in float32 on ``device``, frozen and in evaluation mode; `requires_grad_` it to train further.

    path: latentsync_syncnet.pt of ByteDance/LatentSync, or the same tensors as safetensors. Nothing in it is run.
    Raises InputError when the file is absent and ModelFileError when it is damaged or does not hold exactly the
    tensors of ``config``.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(
            f"{path}: no such file; download latentsync_syncnet.pt from https://huggingface.co/ByteDance/LatentSync "
            "and put it there, or do without: measured sync and the sync loss (losses.sync=0) alone need it"
        )
    with torch.device("meta"):
        network = SyncNet(config).requires_grad_(False)
    wanted = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    with WeightFile(path) as file:
        problems = _misfits(wanted, file.shapes)
        if problems:
            more = f" and {len(problems) - _SHOWN_PROBLEMS} more" if len(problems) > _SHOWN_PROBLEMS else ""
            shown = "; ".join(problems[:_SHOWN_PROBLEMS])
            raise ModelFileError(
                f"{path}: not the LatentSync SyncNet (16 frames, pixels, without attention): {shown}{more}; "
                "download latentsync_syncnet.pt from https://huggingface.co/ByteDance/LatentSync"
            )
        weights = {name: file.tensor(name).to(device, torch.float32, copy=True) for name in wanted}
    network.load_state_dict(weights, assign=True)
    return network.eval()


def _misfits(wanted: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]) -> list[str]:
    missing = [f"{name} is missing" for name in wanted if name not in found]
    unexpected = [f"{name} is unexpected" for name in found if name not in wanted]
    misshapen = [
        f"{name} is {list(found[name])} instead of {list(shape)}"
        for name, shape in wanted.items()
        if name in found and found[name] != shape
    ]
    return missing + misshapen + unexpected
