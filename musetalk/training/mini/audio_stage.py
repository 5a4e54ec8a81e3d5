"""The audio encoder: it learns to tell the mouth's pose from speech, and so to keep what lips need of it."""

from __future__ import annotations

from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...audio.mel import SEGMENT_STEPS
from ...audio.windows import STEPS_PER_SECOND
from ...models.audio_encoder import WhisperConfig, WhisperEncoder
from ..synthetic.visemes import PARAMETERS
from .config import MiniConfig
from .held_out import held_out_speech
from .seeds import Stream, generator
from .speech import SpeechSegment, mask_bands, speech_segment
from .stage import Stage

# Standard deviations of the poses in speech, about: every parameter counts alike.
_SPREAD = (0.22, 0.2, 0.28, 0.35, 0.22, 0.28)
_SILENCE_STEPS = 3 * STEPS_PER_SECOND


class PoseReader(nn.Module):
    """The encoder, and a linear head that reads mouth poses off its last states; the head is thrown away."""

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.encoder = WhisperEncoder(config)
        self.head = nn.Linear(config.channels, len(PARAMETERS))
        with torch.no_grad():
            self.encoder.embed_positions.weight.copy_(_sinusoids(config.positions, config.channels))
        self.encoder.embed_positions.requires_grad_(False)

    def forward(self, mel: Tensor) -> tuple[Tensor, Tensor]:
        """``[B, 80, 3000]`` to poses ``[B, 1500, 6]`` and the encoder's states ``[B, 1500, layers + 1, C]``."""
        states = self.encoder(mel)
        return self.head(states[:, :, -1]), states


class AudioStage(Stage[PoseReader]):
    """Segments come from a sliding pool, so that speech is synthesised once and heard several times.

    One seed makes speech that is equal in distribution only (see `speech_segment`).
    """

    name, stream = "audio", Stream.AUDIO_STEPS

    def __init__(self, config: MiniConfig, device: torch.device) -> None:
        torch.manual_seed(config.seed)
        self.settings, self.speech = config.audio, config.speech
        network = PoseReader(config.audio.network())
        super().__init__(config.audio, network, device, config.seed, speech=asdict(config.speech))
        self._spread = torch.tensor(_SPREAD, device=device)
        self._segment = lru_cache(maxsize=config.audio.pool + config.audio.fresh)(self._make_segment)
        self._held_out: list[SpeechSegment] = []

    def prepare(self, folder: Path) -> None:
        def make() -> list[SpeechSegment]:
            streams = [generator(Stream.AUDIO_HELD_OUT, self.seed, index) for index in range(self.speech.held_out)]
            return [speech_segment(rng, self.speech.seconds, held_out=True, clean=True) for rng in streams]

        self._held_out = held_out_speech(folder, {**asdict(self.speech), "seed": self.seed}, make)

    def losses(self, step: int) -> dict[str, Tensor]:
        rng = self.step_generator(step)
        newest = step * self.settings.fresh
        numbers = rng.choice(self.settings.pool, self.config.batch_size, replace=False) + newest
        segments = [self._segment(int(number)) for number in numbers]
        mels = mask_bands(torch.stack([segment.mel for segment in segments]), rng)
        poses, told = _targets(segments)
        with self.autocast():
            read, states = self.network(mels.to(self.device))
        error = self._error(read, poses.to(self.device))
        told = told.to(self.device)
        poses_loss = (error * told).sum() / told.sum()
        # The UNet attends to all layers alike, so none may be louder than the last, which is normalised.
        loud = F.relu(states[:, :, :-1].float().square().mean(dim=(0, 1, 3)) - 1).mean()
        return {"loss": poses_loss + self.settings.loud * loud, "poses": poses_loss, "loud": loud}

    def validate(self) -> dict[str, float]:
        """Loss, and correlation of what is read with the truth by parameter, for held-out voices and sentences."""
        read = []
        for segment in self._held_out:
            with self.autocast():
                poses, _ = self.network(segment.mel[None].to(self.device))
            read.append(poses[0, : len(segment.steps)].float())
        told = torch.from_numpy(np.concatenate([segment.steps for segment in self._held_out])).to(self.device)
        together = torch.cat(read)
        together_and_told = torch.stack((together, told)).cpu().numpy()
        return {"loss": float(self._error(together, told).mean())} | {
            name: float(np.corrcoef(*together_and_told[:, :, index])[0, 1]) for index, name in enumerate(PARAMETERS)
        }

    def _error(self, read: Tensor, poses: Tensor) -> Tensor:
        """Of poses ``[..., 6]``, each parameter in units of its spread; ``[...]``."""
        pair = read.float() / self._spread, poses / self._spread
        return F.smooth_l1_loss(*pair, reduction="none", beta=0.5).mean(dim=-1)

    def _make_segment(self, number: int) -> SpeechSegment:
        return speech_segment(generator(Stream.AUDIO_SPEECH, self.seed, number), self.speech.seconds)


def _targets(segments: list[SpeechSegment]) -> tuple[Tensor, Tensor]:
    """Poses ``[B, 1500, 6]``, and how much each step counts ``[B, 1500]``: of the silence at the end, its start.

    That silence is taught as the pose of zeros, a mouth at rest; in pauses of speech lips are pressed a little.
    """
    poses = np.zeros((len(segments), SEGMENT_STEPS, len(PARAMETERS)), np.float32)
    told = np.zeros((len(segments), SEGMENT_STEPS), np.float32)
    for row, segment in enumerate(segments):
        count = len(segment.steps)
        poses[row, :count] = segment.steps
        told[row, : count + _SILENCE_STEPS] = 1
    return torch.from_numpy(poses), torch.from_numpy(told)


def _sinusoids(positions: int, channels: int) -> Tensor:
    """Whisper's position table: sines in the first half of the columns, cosines in the second."""
    rates = torch.exp(torch.arange(channels // 2) * (-np.log(10000.0) / (channels // 2 - 1)))
    angles = torch.arange(positions)[:, None] * rates
    return torch.cat((angles.sin(), angles.cos()), dim=1)
