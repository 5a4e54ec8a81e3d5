"""The UNet: the mouth that a voice wants, in a face it is shown with another mouth."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from ...inpainting import positional_encoding
from ...models.unet import UNet
from ..synthetic.people import People
from ..synthetic.photos import PHOTOS, photo_still
from ..synthetic.take import Take, random_moment
from .config import HELD_OUT_MARGIN, MiniConfig
from .held_out import held_out_speech
from .pictures import held_out_people, to_pictures
from .probe import OpeningProbe
from .seeds import Stream, generator
from .shots import Shot, Studio, random_frames
from .speech import SpeechSegment, speech_segment
from .stage import Stage

# As in a clip whose mouth is mostly shut or smiles, the reference is often the face as it was found.
_AS_FOUND = 0.25
# To validate with, of every face: what it says, what it is not heard to say, and what its probe is fitted to.
_SPEECHES = 3
_BATCH = 20
_SHOWN = 8


@dataclass(frozen=True)
class _Held:
    """A shot of consecutive frames of held-out speech, another voice for it, and a probe for its face."""

    kind: str
    shot: Shot
    other: Tensor
    probe: OpeningProbe


class UNetStage(Stage[UNet]):
    """Shots come from a sliding pool, so that each is filmed once and seen several times.

    One seed makes shots of the same faces, takes and frames, whose speech is equal in distribution only (see
    `speech_segment`).
    """

    name, stream = "unet", Stream.UNET_STEPS

    def __init__(self, config: MiniConfig, studio: Studio, people: People, networks: Mapping[str, str]) -> None:
        """networks: the digests of those the studio films with, by stage."""
        torch.manual_seed(config.seed)
        sizes = config.unet.network(config.audio.network())
        unet = UNet(sizes)
        _start_plain(unet)
        super().__init__(
            config.unet,
            unet,
            studio.device,
            config.seed,
            faces=asdict(config.faces),
            speech=asdict(config.speech),
            networks=networks,
        )
        self.settings, self.faces, self.speech = config.unet, config.faces, config.speech
        self.studio, self.people = studio, people
        self._encoding = positional_encoding(sizes.cross_attention_dim).to(studio.device)
        self._shot = lru_cache(maxsize=config.unet.pool + 1)(self._film)
        self._held_out: list[_Held] = []
        self._shown: np.ndarray | None = None

    def prepare(self, folder: Path) -> None:
        rng, unseen = generator(Stream.UNET_HELD_OUT, self.seed), held_out_people(self.faces, self.seed)
        count, length = self.settings.held_out_faces, self.settings.held_out_frames
        faces = [("photographs", photo_still(name)) for name in PHOTOS]
        faces += [("drawn", still) for still in unseen.drawn[:count]]
        faces += [("varied", still) for still in unseen.varied[:count]]
        spoken = held_out_speech(
            folder,
            {"faces": len(faces), "seconds": self.speech.seconds, "seed": self.seed},
            lambda: [self._speech_for(index) for index in range(_SPEECHES * len(faces))],
        )
        for index, (kind, still) in enumerate(faces):
            segment, other, training = spoken[_SPEECHES * index : _SPEECHES * (index + 1)]
            last = len(segment.frames.poses) - length - HELD_OUT_MARGIN
            run = int(rng.integers(HELD_OUT_MARGIN, last)) + np.arange(length)
            known = self.studio.film(still, Take(), 0.0, training, random_frames(training, length, rng))
            shot = self.studio.film(still, Take(), 0.0, segment, run)
            probe = OpeningProbe(known.mouths[:-1], known.openings)
            self._held_out.append(_Held(kind, shot, self.studio.tokens(other, run), probe))

    def losses(self, step: int) -> dict[str, Tensor]:
        rng, settings = self.step_generator(step), self.settings
        newest = step // settings.steps_per_shot
        inputs, tokens, targets, weights = [], [], [], []
        for number in rng.integers(0, settings.pool, self.config.batch_size) + newest:
            shot = self._shot(int(number))
            frame = int(rng.integers(len(shot.tokens)))
            reference = len(shot.tokens) if rng.random() < _AS_FOUND else int(rng.integers(len(shot.tokens)))
            inputs.append(torch.cat((shot.masked, shot.mouths[reference])))
            tokens.append(shot.tokens[frame])
            targets.append(shot.mouths[frame])
            weights.append(self._weights(shot) * (settings.shut if shot.shut[frame] else 1.0))
        predicted = self._predict(torch.stack(inputs), torch.stack(tokens))
        error = (predicted - torch.stack(targets).to(self.device)).abs().mean(dim=1)
        weight = torch.stack(weights).to(self.device)
        return {"loss": (error * weight).sum() / weight.sum()}

    def validate(self) -> dict[str, float]:
        """Of the photographs and of unseen faces, held-out voices saying held-out sentences, about the region that
        moves: error with the right voice and with another one's (``other_error``); correlation of the mouth's opening
        with the truth, likewise, and that of the probe on true latents (``ceiling``).
        """
        figures: dict[str, list[float]] = {}
        shown: list[np.ndarray] = []
        for held in self._held_out:
            shot = held.shot
            count = len(shot.tokens)
            inputs = torch.cat((shot.masked, shot.mouths[-1])).expand(count, -1, -1, -1)
            voiced, other = (
                torch.cat(
                    [
                        self._predict(*pair).cpu()
                        for pair in zip(inputs.split(_BATCH), tokens.split(_BATCH), strict=True)
                    ]
                )
                for tokens in (shot.tokens, held.other)
            )
            truth = shot.mouths[:-1]
            values = {
                "error": _error(voiced, truth, shot.moves),
                "other_error": _error(other, truth, shot.moves),
                "ceiling": _correlation(held.probe(truth), shot.openings),
                "opening": _correlation(held.probe(voiced), shot.openings),
                "other_opening": _correlation(held.probe(other), shot.openings),
            }
            for name, value in values.items():
                figures.setdefault(f"{held.kind}/{name}", []).append(value)
            if len(shown) < 4:
                some = np.linspace(0, count - 1, _SHOWN).astype(int)
                both = torch.cat((truth[some], voiced[some]))
                faces = to_pictures(self.studio.decode(both))
                shown += [np.concatenate(list(faces[:_SHOWN]), 1), np.concatenate(list(faces[_SHOWN:]), 1)]
        self._shown = np.concatenate(shown)[::2, ::2]
        return {name: float(np.mean(values)) for name, values in figures.items()}

    def picture(self) -> np.ndarray | None:
        return self._shown

    def _predict(self, inputs: Tensor, tokens: Tensor) -> Tensor:
        with self.autocast():
            predicted: Tensor = self.network(inputs.to(self.device), tokens.to(self.device) + self._encoding)
        return predicted.float()

    def _weights(self, shot: Shot) -> Tensor:
        weights = 1 + self.settings.mouth * shot.moves
        weights[: weights.shape[0] // 2] *= self.settings.upper
        return weights

    def _film(self, number: int) -> Shot:
        rng = generator(Stream.SHOTS, self.seed, number)
        still = self.people.draw(rng, self.faces.photographs, self.faces.variations)
        segment = speech_segment(generator(Stream.SHOT_SPEECH, self.seed, number), self.speech.seconds)
        frames = random_frames(segment, self.settings.frames, rng)
        return self.studio.film(still, Take.random(rng), random_moment(rng), segment, frames)

    def _speech_for(self, index: int) -> SpeechSegment:
        held_out = index % _SPEECHES < _SPEECHES - 1
        rng = generator(Stream.UNET_HELD_OUT_SPEECH, self.seed, index)
        return speech_segment(rng, self.speech.seconds, held_out=held_out, clean=True, whole=True)


def _start_plain(network: UNet) -> None:
    """Let every block begin as what goes around it, which trains much faster."""
    for name, module in network.named_modules():
        if name.endswith((".conv2", ".proj_out")):
            assert isinstance(module, nn.Conv2d) and module.bias is not None
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)


def _error(predicted: Tensor, truth: Tensor, moves: Tensor) -> float:
    """Mean difference of latents ``[F, 4, 32, 32]``, each place as much as it ``moves``."""
    return float(((predicted - truth).abs().mean(dim=1) * moves).sum() / (len(truth) * moves.sum()))


def _correlation(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's; 0 where one of them does not move."""
    if min(one.std(), other.std()) < 1e-4:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])
