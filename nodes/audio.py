"""Whisper Audio Features."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import torch
from comfy_api.latest import io

from ..musetalk.audio.features import exact_fps, open_windows
from .host.media import open_sound
from .host.progress import Progress, stop_if_interrupted
from .host.running import engine_models
from .schema import AudioFeatures as AudioFeaturesSocket
from .schema import audio_encoder_input, avatar_input, make_schema

_CHUNK = 256


@dataclass(frozen=True)
class Windows:
    """What a MUSETALK_AUDIO socket carries: features, float32 ``[N, 50, C]``, one window per frame at ``fps``."""

    features: torch.Tensor
    fps: Fraction


class AudioFeatures(io.ComfyNode):
    """A sound to one window of Whisper states per video frame."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return make_schema(
            node_id="MuseTalkAudioFeatures",
            display_name="Whisper Audio Features",
            category="MuseTalk/audio",
            description="One window of Whisper encoder states per video frame, at any frame rate.",
            search_aliases=["musetalk", "whisper", "audio encoder", "lip sync"],
            inputs=[
                io.Audio.Input("audio", tooltip="The speech, at any sample rate; channels are mixed."),
                audio_encoder_input(),
                io.Float.Input(
                    "fps",
                    default=25.0,
                    min=1.0,
                    max=240.0,
                    step=0.001,
                    tooltip="Frames per second of the footage, default 25. 29.97 means 30000/1001. Not used when "
                    "an avatar is connected.",
                ),
                avatar_input(
                    optional=True,
                    tooltip="The prepared footage: its frame rate and its parity setting replace the ones here.",
                ),
            ],
            outputs=[
                AudioFeaturesSocket.Output("audio_features", display_name="audio_features"),
                io.Float.Output("fps_out", display_name="fps"),
                io.Int.Output("frame_count", display_name="frame_count"),
            ],
        )

    @classmethod
    def execute(cls, audio: Any, audio_encoder: Any, fps: float, avatar: Any = None) -> io.NodeOutput:
        sound = open_sound(audio)
        rate = exact_fps(fps) if avatar is None else avatar.frames.fps
        parity = avatar is not None and avatar.profile.parity
        models = engine_models("v15", audio_encoder=audio_encoder)
        windows = open_windows(models, sound, rate, parity=parity, check_cancelled=stop_if_interrupted)
        progress = Progress()
        try:
            parts = []
            for start in range(0, len(windows), _CHUNK):
                parts.append(windows[start : start + _CHUNK])
                progress(min(start + _CHUNK, len(windows)), len(windows))
        finally:
            windows.close()
        features = torch.cat(parts)
        return io.NodeOutput(Windows(features, rate), float(rate), len(features))
