"""The speech that a stage is validated with: synthesised once, and kept in the stage's folder.

espeak-ng never says a sentence twice alike; figures of a run and its resumption can only be compared for one sound.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ...errors import InputError, ModelFileError
from ..state_file import blamed_on, complete_or_absent, load_state, save_state
from ..synthetic.visemes import VisemeTrack
from .speech import SpeechSegment

FILE = "held_out_speech.safetensors"


def held_out_speech(
    folder: Path, made_with: Mapping[str, Any], make: Callable[[], list[SpeechSegment]]
) -> list[SpeechSegment]:
    """What the folder keeps; made and written where there is nothing, or what was made with something else.

    made_with: everything that ``make`` depends on, as JSON has it. Raises InputError for a damaged file, OutputError.
    """
    path = folder / FILE
    if path.exists():
        try:
            kept = load_state(path)
            with blamed_on(path):
                if kept["made_with"] == dict(made_with):
                    return [_segment(record) for record in kept["segments"]]
        except ModelFileError as error:
            raise InputError(
                f"{path}: damaged ({error.__cause__}); delete it to validate with other speech from here on"
            ) from error
    segments = make()
    _write(path, {"made_with": dict(made_with), "segments": _records(segments)})
    return segments


def _write(path: Path, content: Mapping[str, Any]) -> None:
    part = path.with_name(f".{path.name}.part")
    with complete_or_absent(part):
        path.parent.mkdir(parents=True, exist_ok=True)
        save_state(content, part)
        part.replace(path)


def _records(segments: Sequence[SpeechSegment]) -> list[dict[str, Any]]:
    return [
        {
            "mel": segment.mel,
            "steps": torch.from_numpy(segment.steps),
            "poses": torch.from_numpy(segment.frames.poses),
            "shut": torch.from_numpy(segment.frames.shut),
            "names": list(segment.frames.names),
        }
        for segment in segments
    ]


def _segment(record: Mapping[str, Any]) -> SpeechSegment:
    frames = VisemeTrack(record["poses"].numpy(), record["shut"].numpy(), tuple(record["names"]))
    return SpeechSegment(record["mel"], record["steps"].numpy(), frames)
