"""MuseTalk: audio-driven lip sync for real footage.

The public interface is exactly ``__all__``; docs/api.md describes it. Names are loaded on first use, so that importing
the package costs next to nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .audio.features import audio_features
    from .avatar import Avatar, prepare_avatar
    from .compose import paste_back
    from .inpainting import inpaint
    from .latents import decode_faces
    from .models import Models, load_models
    from .pipeline import lipsync
    from .profile import Profile
    from .speakers import Speaker
    from .video.frames import FrameSource

__version__ = "0.1.0"

__all__ = [
    "Avatar",
    "FrameSource",
    "Models",
    "Profile",
    "Speaker",
    "audio_features",
    "decode_faces",
    "inpaint",
    "lipsync",
    "load_models",
    "paste_back",
    "prepare_avatar",
]

_HOMES = {
    "Avatar": "avatar",
    "FrameSource": "video.frames",
    "Models": "models",
    "Profile": "profile",
    "Speaker": "speakers",
    "audio_features": "audio.features",
    "decode_faces": "latents",
    "inpaint": "inpainting",
    "lipsync": "pipeline",
    "load_models": "models",
    "paste_back": "compose",
    "prepare_avatar": "avatar",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
