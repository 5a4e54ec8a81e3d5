"""How a live server streams on the machine it runs on: in what precision, and how many frames at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, TypeVar

import torch
import torch.nn.functional as F

from ..audio.mel import log_mel
from ..inpainting import TOKENS, predict_latents
from ..latents import decode_batch
from .cores import start_threads, stream_count
from .streaming import FeatureStream, encode_states
from .thinning import thinned_steps

if TYPE_CHECKING:
    from ..models import Models

HOPS = (1, 2, 4)
# What a hop of a longer utterance is.
_TRIED_STEPS = 1400
_BUSY = 0.8
_TRIALS = 5
_LONG_S = 0.25
# A gain that is worth the accuracy.
_GAIN = 1.15

T = TypeVar("T")


@dataclass(frozen=True)
class Tuning:
    """How the features of a server's sessions are streamed.

    thinned: see :class:`FeatureStream`. streams: see :class:`Generator`. encode_s, frame_s: seconds for one hop's sound
    and for one frame, in one stream.
    """

    thinned: bool
    streams: int
    encode_s: float
    frame_s: float

    def hop_frames(self, sessions: int, fps: Fraction) -> int:
        """The fewest frames at a time with which so many sessions leave the machine a fifth of its time, else 4.

        A frame waits for the last of its hop, and every hop costs an encoding.
        """

        def seconds(hop: int) -> float:
            return max(1, sessions) * (self.encode_s + hop * self.frame_s) / self.streams

        return next((hop for hop in HOPS if seconds(hop) <= _BUSY * hop / fps), HOPS[-1])

    def stream(self, models: Models | None, fps: Fraction, sessions: int) -> FeatureStream:
        """The stream of one utterance, while so many sessions are open, its own among them.

        models: as :class:`FeatureStream` takes them.
        """
        return FeatureStream(models, fps, hop_frames=self.hop_frames(sessions, fps), thinned=self.thinned)


def apart(work: Callable[[], T], *, one_core: bool = False) -> T:
    """Do something in a thread that ends with it, and computes with one core if that is asked for.

    OpenMP keeps helpers for every thread that ever computed, and with more of them than cores they sleep between any
    two steps of a network: the worker's should be the only ones.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except BaseException as error:
            outcome.set_exception(error)

    (thread,) = start_threads(1, run, "musetalk-live-apart", one_core=one_core)
    thread.join()
    return outcome.result()


def tune(models: Models) -> Tuning:
    """Try what a session asks of the networks: half a second with small ones, a few frames' time with large ones.

    Features are thinned on a CPU: a GPU encodes a whole segment in less time than it takes to ask it to.
    """
    return apart(lambda: _tune(models), one_core=models.device.type == "cpu")


def live_dtype(device: torch.device) -> torch.dtype | None:
    """The precision for live avatars: bf16 on a CPU that computes in it faster than in fp32, else the usual one."""
    return apart(_fastest_of_the_cpu) if device.type == "cpu" else None


@torch.inference_mode()
def _tune(models: Models) -> Tuning:
    thinned = models.device.type == "cpu"
    mel = log_mel(torch.zeros(16000).numpy())[None]
    part = thinned_steps(_TRIED_STEPS, _TRIED_STEPS - 20) if thinned else None
    latents = torch.zeros(1, 8, 32, 32)
    window = torch.zeros(1, TOKENS, models.audio_encoder.config.channels)
    return Tuning(
        thinned,
        stream_count(models.device),
        _shortest(lambda: encode_states(models, mel, part).cpu()),
        _shortest(lambda: decode_batch(models, predict_latents(models, latents, window))),
    )


@torch.inference_mode()
def _fastest_of_the_cpu() -> torch.dtype | None:
    def convolution(dtype: torch.dtype) -> Callable[[], torch.Tensor]:
        image = torch.zeros(1, 64, 64, 64, dtype=dtype).to(memory_format=torch.channels_last)
        weight = torch.zeros(64, 64, 3, 3, dtype=dtype).to(memory_format=torch.channels_last)
        return lambda: F.conv2d(image, weight, padding=1)

    half, full = convolution(torch.bfloat16), convolution(torch.float32)
    # In turns, so that a busy moment hits both.
    trials = [(_shortest(half), _shortest(full)) for _ in range(_TRIALS)]
    return torch.bfloat16 if _GAIN * min(h for h, _ in trials) < min(f for _, f in trials) else None


def _shortest(run: Callable[[], object]) -> float:
    """Seconds of the fastest of a few runs; the first one prepares, and of long ones the second is enough."""
    run()
    times: list[float] = []
    while len(times) < _TRIALS and sum(times) < _LONG_S:
        begin = time.perf_counter()
        run()
        times.append(time.perf_counter() - begin)
    return min(times)
