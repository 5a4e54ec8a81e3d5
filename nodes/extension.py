"""The pack as ComfyUI sees it."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from . import replacements
from .adapter import ApplyLoRA
from .audio import AudioFeatures
from .avatar_files import LoadAvatar, SaveAvatar
from .find_faces import FindFaces
from .host import folders, live_routes
from .live import LiveAvatar
from .loaders import LoadModels
from .measure import MeasureSync
from .paste_back import DecodePasteBack, PasteBack
from .prepare import PrepareAvatar
from .sampling import Inpaint
from .tune import Tune
from .video import LipSyncVideo

NODES: list[type[io.ComfyNode]] = [
    LoadModels,
    PrepareAvatar,
    AudioFeatures,
    Inpaint,
    DecodePasteBack,
    PasteBack,
    SaveAvatar,
    LoadAvatar,
    LipSyncVideo,
    Tune,
    FindFaces,
    ApplyLoRA,
    MeasureSync,
    LiveAvatar,
]


class MuseTalkExtension(ComfyExtension):
    """Its nodes, what they replace, and its routes."""

    def __init__(self) -> None:
        folders.register()  # schemas list what is in them
        live_routes.register()

    async def on_load(self) -> None:
        # Releases before 0.14 never call this; they have no replacements either.
        await replacements.register(NODES)

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return NODES
