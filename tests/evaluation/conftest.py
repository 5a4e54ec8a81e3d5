"""A talking portrait, its voice, and what is found in them."""

from __future__ import annotations

import importlib.util
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from musetalk.audio.source import AudioSource
from musetalk.evaluation import Evaluation, evaluate
from musetalk.face.mesh import FaceMesh
from musetalk.video.frames import FrameSource
from musetalk.video.writer import VideoWriter

HERE = Path(__file__).resolve().parent
FRAMES = 100


@pytest.fixture(scope="session")
def clips() -> ModuleType:
    """talking_clips.py, which makes mouths and voices."""
    spec = importlib.util.spec_from_file_location("talking_clips", HERE / "talking_clips.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def talker(clips: ModuleType):
    """A face of 187 pixels, uint8 ``[330, 270, 3]`` around it."""
    picture = np.array(Image.open(HERE.parent / "data" / "grace_hopper.jpg").convert("RGB"))[70:400, 130:400].copy()
    return clips.Talker(picture, (40, 37, 227, 263), FaceMesh.load())


@pytest.fixture(scope="session")
def drive(clips: ModuleType) -> np.ndarray:
    """The mouth's motion, four seconds."""
    return clips.syllables(FRAMES)


@pytest.fixture(scope="session")
def talk(talker, drive: np.ndarray) -> FrameSource:
    return FrameSource.from_array(talker.clip(drive))


@pytest.fixture(scope="session")
def speech_of(clips: ModuleType):
    """speech_of(drive, late=0): an AudioSource."""

    def make(drive: np.ndarray, late: int = 0) -> AudioSource:
        return AudioSource.from_array(clips.voice(drive, late), 16000)

    return make


@pytest.fixture(scope="session")
def against_itself(talk: FrameSource, drive: np.ndarray, speech_of) -> Evaluation:
    return evaluate(talk, talk, speech_of(drive))


@pytest.fixture(scope="session")
def talk_file(talk: FrameSource, drive: np.ndarray, speech_of, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The clip as a video file with its voice."""
    path = tmp_path_factory.mktemp("talk") / "talk.mp4"
    with VideoWriter(path, *talk.size, Fraction(25), audio=speech_of(drive)) as writer:
        writer.write(talk[:])
    return path
