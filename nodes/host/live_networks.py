"""The networks of live avatars: on the device whenever they compute, beside the prompts that ComfyUI runs."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import comfy.model_management as mm
import torch
from comfy.patcher_extension import CallbacksMP
from server import PromptServer

from ...musetalk.errors import Cancelled
from ...musetalk.models import Models
from . import finding
from .networks import FaceModels, ManagedModel, MuseTalkModel, load_network, load_vae
from .running import engine_models

_BATCH = 16
_KEY = "musetalk_live"
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Networks:
    """What live avatars need, as a graph's sockets carry it."""

    model: MuseTalkModel
    vae: Any
    audio_encoder: ManagedModel
    face_models: FaceModels


def default_networks() -> Networks:
    """Those that Load MuseTalk Models loads when nothing is chosen; nothing is fetched. Raises ModelFileError."""
    kinds = ("unet", "vae", "audio_encoder", "face_parser")
    found = finding.find(dict.fromkeys(kinds, finding.AUTO), finding.AUTO, download=False)
    files, parser = found.checkpoints, found.checkpoints.get("face_parser")
    return Networks(
        MuseTalkModel(load_network(files["unet"], finding.AUTO), found.version),
        load_vae(files["vae"], finding.AUTO),
        load_network(files["audio_encoder"], finding.AUTO),
        FaceModels(None if parser is None else load_network(parser, finding.AUTO), None, None, found.version),
    )


class LiveNetworks:
    """The engine's Models, asked for before every batch, in threads that ComfyUI knows nothing of.

    Its memory manager has no locks, so these threads never move a model while a prompt runs: networks that the prompt
    has put out of memory come back after it, and until then who needs them waits.
    """

    def __init__(self, networks: Networks | None, on_freed: Callable[[], None]) -> None:
        """
        networks: None loads the default ones when they are first needed. on_freed: called, in ComfyUI's thread, when
        they are put out of memory with no prompt to make room for: because the user wants all of it back.
        """
        self.networks = networks
        self._on_freed = on_freed
        self._models: Models | None = None
        self._lock = threading.Lock()
        self._bringing = False
        self._released = threading.Event()

    def __call__(self) -> Models:
        """Networks on the device, waiting for it if need be. Raises ModelFileError, and Cancelled once released."""
        while not self._resident():
            if not prompt_is_running():
                return self.bring()
            if self._released.wait(_POLL_SECONDS):
                break
        models = self._models
        if models is None or self._released.is_set():
            raise Cancelled("live avatars have been closed")
        return models

    def at_hand(self) -> bool:
        """Whether calling it would not wait."""
        return self._resident() or not prompt_is_running()

    def bring(self) -> Models:
        """Bring them to the device now: for the thread in which prompts run, or while none does."""
        with self._lock:
            if self._released.is_set():
                raise Cancelled("live avatars have been closed")
            if self.networks is None:
                self.networks = default_networks()
            chosen, self._bringing = self.networks, True
            try:
                # ComfyUI's own thread is always in this mode, and weights remember the mode they were made in.
                with torch.inference_mode():
                    self._models = engine_models(
                        chosen.model.version,
                        model=chosen.model,
                        vae=chosen.vae,
                        audio_encoder=chosen.audio_encoder,
                        face_models=chosen.face_models,
                        batch_size=_BATCH,
                    )
            finally:
                self._bringing = False
            self._watch(chosen.model.patcher)
            return self._models

    def release(self) -> None:
        """Let the networks go; who waits for them is told that they will not come."""
        self._released.set()
        with self._lock:
            if self.networks is not None:
                self.networks.model.patcher.remove_callbacks_with_key(CallbacksMP.ON_DETACH, _KEY)
            self.networks = self._models = None

    def _resident(self) -> bool:
        chosen = self.networks
        if chosen is None or self._models is None:
            return False
        loaded = [entry.model for entry in list(mm.current_loaded_models)]
        networks = (chosen.model.unet, chosen.audio_encoder, chosen.face_models.parser)
        patchers = [chosen.vae.patcher, *(network.patcher for network in networks if network is not None)]
        return all(any(patcher is other for other in loaded) for patcher in patchers)

    def _watch(self, patcher: Any) -> None:
        # Clones copy callbacks: they must neither keep these networks alive nor speak for them.
        this = weakref.ref(self)

        def detached(detached_patcher: Any, _: bool) -> None:
            networks = this()
            if networks is not None and detached_patcher is patcher:
                networks._detached()

        patcher.remove_callbacks_with_key(CallbacksMP.ON_DETACH, _KEY)
        patcher.add_callback_with_key(CallbacksMP.ON_DETACH, _KEY, detached)

    def _detached(self) -> None:
        if not (self._bringing or self._released.is_set() or prompt_is_running()):
            self._on_freed()


def prompt_is_running() -> bool:
    return bool(PromptServer.instance.prompt_queue.currently_running)
