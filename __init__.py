"""MuseTalk Studio for ComfyUI: audio-driven lip sync for real footage."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .nodes.extension import MuseTalkExtension

WEB_DIRECTORY = "./js"


async def comfy_entrypoint() -> MuseTalkExtension:
    from .nodes.extension import MuseTalkExtension

    return MuseTalkExtension()
