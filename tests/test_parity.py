"""Every stage against the original code's own output, on the same random weights (tests/goldens/README.md)."""

import numpy as np
import pytest
import torch

from musetalk import FrameSource, Profile, audio_features, decode_faces, inpaint, prepare_avatar
from musetalk.audio.source import AudioSource
from musetalk.inpainting import positional_encoding
from musetalk.latents import crop_face, vae_inputs


@pytest.fixture(scope="module")
def avatar(tiny_models, portrait_golden):
    frames = FrameSource.from_array(portrait_golden["frames"])
    return prepare_avatar(tiny_models, frames, boxes=portrait_golden["bbox"])


@pytest.fixture(scope="module")
def features(tiny_models, speech):
    source = AudioSource.open(speech)
    waveform = np.concatenate(list(source.blocks()), axis=1)
    return audio_features(tiny_models, waveform, source.sample_rate, fps=25)


def test_audio_windows(features, portrait_golden):
    assert len(features) == portrait_golden["num_windows"]
    np.testing.assert_allclose(features[:4], portrait_golden["windows_head"], atol=2e-4)
    np.testing.assert_allclose(features[-4:], portrait_golden["windows_tail"], atol=2e-4)


def test_latents_without_sampling(avatar, portrait_golden):
    np.testing.assert_allclose(avatar.latents, portrait_golden["latents_mode"], atol=1e-4)


def test_latents_with_sampling_draw_the_same_noise(tiny_models, portrait_golden):
    profile = Profile(vae_sampling="sample", seed=int(portrait_golden["sample_seed"]))
    frames = FrameSource.from_array(portrait_golden["frames"])
    sampled = prepare_avatar(tiny_models, frames, boxes=portrait_golden["bbox"], profile=profile).latents
    noise = portrait_golden["latents_sampled"] - portrait_golden["latents_mode"]
    assert np.abs(noise).max() > 3e-5
    np.testing.assert_allclose(sampled, portrait_golden["latents_sampled"], atol=1e-5)


def test_predicted_latents(tiny_models, avatar, portrait_golden):
    predicted = inpaint(tiny_models, avatar, torch.from_numpy(portrait_golden["windows_head"]))
    np.testing.assert_allclose(predicted, portrait_golden["pred_latents"], atol=1e-4)


def test_decoded_faces(tiny_models, portrait_golden):
    faces = decode_faces(tiny_models, torch.from_numpy(portrait_golden["pred_latents"]))
    difference = np.abs(faces.astype(int) - portrait_golden["decoded"])
    assert difference.max() <= 1 and (difference > 0).mean() < 0.01


@pytest.fixture(scope="module")
def golden(shared):
    with np.load(shared / "goldens" / "sun_tiny.npz") as file:
        return {name: file[name] for name in file.files}


class TestRealClip:
    """The same ladder, stage by stage, on the real clip of the shared folder."""

    def test_crops_are_identical(self, golden):
        for frame, box, crop in zip(golden["frames"], golden["bbox_v15"], golden["crop256"], strict=True):
            np.testing.assert_array_equal(crop_face(frame[..., ::-1], tuple(map(int, box)))[..., ::-1], crop)

    def test_vae_inputs_are_identical(self, golden):
        inputs = vae_inputs(golden["crop256"][:1, ..., ::-1])
        np.testing.assert_array_equal(inputs[0, 0], golden["vae_input_masked0"][0])
        np.testing.assert_array_equal(inputs[0, 1], golden["vae_input_ref0"][0])

    def test_positional_encoding(self, golden):
        encoded = torch.from_numpy(golden["whisper_chunks"]) + positional_encoding(384)
        np.testing.assert_allclose(encoded, golden["pe_features"], atol=5e-6)

    def test_real_voice(self, golden, tiny_models, shared):
        source = AudioSource.open(shared / "data" / "eng.wav")
        waveform = np.concatenate(list(source.blocks()), axis=1)
        features = audio_features(tiny_models, waveform, source.sample_rate)
        assert len(features) == golden["num_chunks_total"]
        np.testing.assert_allclose(features[:8], golden["whisper_chunks"], atol=2e-4)
        np.testing.assert_allclose(features[-4:], golden["whisper_chunks_tail"], atol=2e-4)

    def test_latents_to_faces(self, golden, tiny_models):
        frames = FrameSource.from_array(np.ascontiguousarray(golden["frames"][..., ::-1]))
        profile = Profile(vae_sampling="sample", seed=1234)
        avatar = prepare_avatar(tiny_models, frames, boxes=golden["bbox"], profile=profile)
        np.testing.assert_allclose(avatar.latents, golden["latents"], atol=1e-4)
        predicted = inpaint(tiny_models, avatar, torch.from_numpy(golden["whisper_chunks"]))
        np.testing.assert_allclose(predicted, golden["pred_latents"], atol=1e-4)
        faces = decode_faces(tiny_models, predicted)
        assert np.abs(faces[..., ::-1].astype(int) - golden["decoded_uint8"]).max() <= 1
