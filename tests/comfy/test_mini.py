"""A new user's first workflow, before any download: the model that is included, and a mouth that says the sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import numpy as np
from PIL import Image

from musetalk.evaluation.correlation import correlate

WORKFLOW = Path(__file__).resolve().parents[2] / "workflows" / "api" / "photo_voice.json"
FACE = "astronaut"


def test_the_included_model_talks(server: Any, talking: ModuleType) -> None:
    clip = talking.talking_clip(FACE)
    Image.fromarray(talking.resting_picture(clip)).save(server.base / "input" / "resting.png")
    shutil.copy(talking.SPOKEN / "sentence.wav", server.base / "input")
    given = {
        "LoadImage": {"image": "resting.png"},
        "LoadAudio": {"audio": "sentence.wav"},
        "MuseTalkLoadModels": {"unet": "musetalk-mini (included)"},
    }
    prompt = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    for node in prompt.values():
        node["inputs"].update(given.get(node["class_type"], {}))
    (save,) = [name for name, node in prompt.items() if node["class_type"] == "SaveVideo"]
    (path,) = server.files(server.run(prompt), save)
    with av.open(str(path)) as file:
        frames = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
        assert file.streams.audio and file.streams.video[0].average_rate == 25
    assert len(frames) == len(clip) and frames[0].shape == clip.scene.picture.shape
    mouth = talking.openings(frames, FACE, clip)
    curve = correlate(clip.truth().openings.astype(np.float64), mouth)
    assert curve is not None and curve.correlation > 0.6 and abs(curve.lag) < 0.5, curve
