"""The networks behind the worker draw what the offline pipeline draws; the closed mouth is that of silence."""

import threading
from dataclasses import replace
from math import inf

import numpy as np
import pytest
import torch

from musetalk import audio_features, decode_faces, inpaint, paste_back, prepare_avatar
from musetalk.errors import Cancelled
from musetalk.live.generator import EncodeJob, FrameJob, ModelGenerator
from musetalk.live.live_avatar import LiveAvatar
from musetalk.live.streaming import silence_window
from musetalk.live.thinning import thinned_steps
from musetalk.live.worker import Worker

FACELESS = 5


@pytest.fixture(scope="module")
def avatar(mesh_models, portrait_frames):
    boxes = np.tile([139, 60, 232, 176], (len(portrait_frames), 1))
    boxes[FACELESS] = 0
    return prepare_avatar(mesh_models, portrait_frames, boxes=boxes)


@pytest.fixture
def live(avatar):
    return LiveAvatar(avatar)


@pytest.fixture(scope="module")
def short(mesh_models, portrait_frames):
    return prepare_avatar(mesh_models, portrait_frames[:3], boxes=np.tile([139, 60, 232, 176], (3, 1)))


def jobs_of(live, windows, sources):
    return [
        FrameJob(live, source, window, inf, "one", 0, lambda: False, lambda result: None)
        for source, window in zip(sources, windows, strict=True)
    ]


def test_frames_are_those_of_the_offline_pipeline(mesh_models, avatar, live, voice):
    features = audio_features(mesh_models, voice, 16000)
    faces = decode_faces(mesh_models, inpaint(mesh_models, avatar, features))
    expected = np.concatenate(list(paste_back(avatar, faces)))
    drawn = np.stack(ModelGenerator(mesh_models).generate(jobs_of(live, features, range(12))))
    np.testing.assert_allclose(drawn.astype(int), expected, atol=1)
    np.testing.assert_array_equal(drawn[FACELESS], avatar.frames[FACELESS])
    assert drawn.flags.writeable


@pytest.mark.parametrize("seen_bytes", [0, 1 << 30])
def test_footage_looked_at_before_draws_the_same_frames(mesh_models, live, seen_bytes):
    """Kept or not, together or alone, in whatever company."""
    windows = torch.randn(6, 50, mesh_models.audio_encoder.config.channels, generator=torch.Generator().manual_seed(3))
    alone = [ModelGenerator(mesh_models).generate([job])[0] for job in jobs_of(live, windows, [1, 2, 3, 2, 1, 4])]
    generator = ModelGenerator(mesh_models, seen_bytes=seen_bytes)
    jobs = jobs_of(live, windows, [1, 2, 3, 2, 1, 4])
    for part in (jobs, jobs[3:], jobs[:2]):
        for job, frame in zip(part, generator.generate(part), strict=True):
            np.testing.assert_array_equal(frame, alone[jobs.index(job)])


def test_models_may_be_asked_for_before_every_batch(mesh_models, live):
    asked = []
    generator = ModelGenerator(lambda: asked.append(1) or mesh_models)
    windows = torch.zeros(2, 50, mesh_models.audio_encoder.config.channels)
    generator.generate(jobs_of(live, windows, [0, 1]))
    generator.generate(jobs_of(live, windows, [0, 1]))
    assert len(asked) == 2


def test_encoding_together_gives_the_bits_of_encoding_alone(mesh_models):
    mels = torch.randn(4, 80, 3000, generator=torch.Generator().manual_seed(1))
    parts = [None, thinned_steps(90, 0), None, thinned_steps(700, 650)]
    jobs = [EncodeJob(mel, 0.0, "one", 0, bool, print, part) for mel, part in zip(mels, parts, strict=True)]
    generator = ModelGenerator(mesh_models)
    for states, job in zip(generator.encode(jobs), jobs, strict=True):
        assert torch.equal(states, generator.encode([job])[0])
        assert len(states) == (1500 if job.thinned is None else len(job.thinned.wanted)) and states.ndim == 3


def test_latents_that_are_not_finite_show_the_closed_mouth(mesh_models, live):
    class Broken(torch.nn.Module):
        look = mesh_models.unet.look

        def listen(self, seen, tokens):
            out = mesh_models.unet.listen(seen, tokens)
            out[tokens.mean(dim=(1, 2)) > 4] = float("nan")
            return out

    live.close_mouth(1, np.full((320, 384, 3), 77, np.uint8))
    generator = ModelGenerator(replace(mesh_models, unet=Broken()))
    windows = torch.zeros(2, 50, mesh_models.audio_encoder.config.channels)
    windows[1] = 9
    frames = generator.generate(jobs_of(live, windows, [0, 1]))
    np.testing.assert_array_equal(frames[1], live.idle_frame(1))
    assert generator.repaired == 1 and (frames[0] != frames[1]).any()


def test_the_closed_mouth_is_what_silence_draws(mesh_models, short, live):
    assert live.missing() == [source for source in range(12) if source != FACELESS]
    np.testing.assert_array_equal(live.idle_frame(2), live.footage(2))
    live, silence = LiveAvatar(short), silence_window(mesh_models)
    with Worker(ModelGenerator(mesh_models), 1) as worker:
        live.warm(worker, silence)
        assert worker.sessions == 0 and live.fits(dict(enumerate(live.closed)), worker, silence)
    assert live.is_warm
    drawn = ModelGenerator(mesh_models).generate(jobs_of(live, [silence] * 3, range(3)))
    for source in range(3):
        # Drawn in another batch size.
        np.testing.assert_allclose(live.idle_frame(source).astype(int), drawn[source], atol=1)
        assert (live.idle_frame(source) != live.footage(source)).any()


def test_footage_cannot_be_spoilt(live):
    with pytest.raises(ValueError, match="read-only"):
        live.footage(0)[0, 0] = 1
    before = live.footage(0).copy()
    live.close_mouth(0, np.zeros_like(before))
    live.idle_frame(0)[...] = 0
    np.testing.assert_array_equal(live.footage(0), before)


def test_the_size_is_what_is_held(live, avatar):
    held = avatar.frames[:].nbytes + 4 * avatar.latents.numel()
    for source in range(12):
        live.close_mouth(source, live.footage(source))
    held += sum(patch.nbytes for patch in live.closed if patch is not None)
    held += sum(len(mask.packed) for mask in avatar.masks)
    assert live.size() == held


def test_warming_ends_with_the_worker(mesh_models, live):
    worker, silence = Worker(ModelGenerator(mesh_models), 1), silence_window(mesh_models)
    closing = threading.Timer(0.2, worker.close)
    closing.start()
    # The worker was never started: nothing answers until it is closed.
    with pytest.raises(Cancelled, match="closed"):
        live.warm(worker, silence)
    closing.join()
