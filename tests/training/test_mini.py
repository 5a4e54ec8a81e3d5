"""The training of musetalk-mini: what it is fed equals what the engine feeds, and it learns, resumes and exports."""

import json
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

import musetalk
from musetalk.audio.mel import log_mel
from musetalk.audio.waveform import SAMPLE_RATE, Waveform
from musetalk.audio.windows import AudioWindows, window_starts
from musetalk.errors import InputError
from musetalk.inpainting import TOKENS
from musetalk.latents import SCALING_FACTOR, vae_inputs
from musetalk.models.audio_encoder import WhisperEncoder
from musetalk.models.vae import AutoencoderKL
from musetalk.training.mini.config import MiniConfig, read_mini_config
from musetalk.training.mini.encoders import autoencoder
from musetalk.training.mini.run import train_mini
from musetalk.training.mini.shots import Studio
from musetalk.training.mini.speech import SpeechSegment
from musetalk.training.mini.stage import run_stage, weights_of
from musetalk.training.mini.vae_stage import VAEStage
from musetalk.training.muon import Muon, orthogonal
from musetalk.training.synthetic.people import gather_people
from musetalk.training.synthetic.photos import photo_still
from musetalk.training.synthetic.scripts import utterance
from musetalk.training.synthetic.take import Take
from musetalk.training.synthetic.visemes import sampled_poses, viseme_track

RECIPE = Path(__file__).resolve().parents[2] / "configs" / "mini.yaml"
CPU = torch.device("cpu")
TINY = (
    *("faces.drawn=2", "faces.varied=2", "faces.held_out=2"),
    *("audio.steps=12", "audio.batch_size=1", "audio.pool=2", "audio.validate_every=6", "audio.checkpoint_every=6"),
    *("audio.channels=32", "audio.ffn_channels=32", "audio.heads=2"),
    *("vae.steps=16", "vae.batch_size=2", "vae.validate_every=8", "vae.checkpoint_every=8"),
    *("vae.widths=[8, 8, 16, 16]", "vae.precision=fp32"),
    *("unet.steps=8", "unet.batch_size=4", "unet.pool=2", "unet.frames=6", "unet.validate_every=4"),
    *("unet.checkpoint_every=4", "unet.widths=[16, 32, 32]", "unet.groups=8", "unet.heads=2"),
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> MiniConfig:
    output = tmp_path_factory.mktemp("mini")
    return read_mini_config(RECIPE, [*TINY, f"output={output}"])


@pytest.fixture(scope="module")
def trained(tiny: MiniConfig) -> Path:
    report = train_mini(tiny, device="cpu")
    assert report.finished == ("audio", "vae", "unet")
    assert report.stopped is None
    assert report.models is not None
    return report.models


def validations(folder: Path) -> list[dict[str, float]]:
    lines = (folder / "losses.jsonl").read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if any("/" in name for name in entry)]


def test_every_stage_gets_better_at_what_it_never_saw(tiny: MiniConfig, trained: Path) -> None:
    audio, vae, unet = (validations(tiny.output / stage) for stage in ("audio", "vae", "unet"))
    assert len(audio) == len(vae) == len(unet) == 2
    assert audio[-1]["validation/loss"] < audio[0]["validation/loss"]
    assert vae[-1]["validation/psnr"] > vae[0]["validation/psnr"] + 0.3
    assert unet[-1]["validation/photographs/error"] < unet[0]["validation/photographs/error"]
    assert unet[-1]["validation/photographs/ceiling"] > 0.9


def test_the_models_folder_runs_in_the_engine(trained: Path, tmp_path: Path) -> None:
    models = musetalk.load_models(trained, device="cpu")
    assert models.version == "v15"
    assert models.audio_encoder.config.channels == 32
    assert models.vae.config.norm_num_groups == 8
    frames = np.broadcast_to(photo_still("hopper").picture, (1, 256, 256, 3))
    boxes = np.array([[10, 10, 246, 240]])
    avatar = musetalk.prepare_avatar(models, frames, boxes)
    sound = np.sin(np.arange(SAMPLE_RATE // 2) / 20).astype(np.float32)
    features = musetalk.audio_features(models, sound, SAMPLE_RATE)
    assert musetalk.inpaint(models, avatar, features).shape == (12, 4, 32, 32)


def test_a_finished_training_is_not_run_again(tiny: MiniConfig, trained: Path) -> None:
    before = load_file(trained / "musetalkV15" / "unet.safetensors")
    report = train_mini(tiny, device="cpu")
    assert report.finished == ("audio", "vae", "unet")
    after = load_file(trained / "musetalkV15" / "unet.safetensors")
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_resumed_stage_ends_as_one_that_never_stopped(tiny: MiniConfig, tmp_path: Path) -> None:
    config = replace(tiny.vae, steps=4, checkpoint_every=2, validate_every=4)

    def stage() -> VAEStage:
        return VAEStage(config, tiny.faces, CPU, seed=3)

    assert run_stage(stage(), tmp_path / "whole")
    assert run_stage(stage(), tmp_path / "pieces")
    newest = max((tmp_path / "pieces" / "checkpoints").iterdir())
    newest.rename(tmp_path / "elsewhere")
    assert run_stage(stage(), tmp_path / "pieces")
    whole, pieces = weights_of(tmp_path / "whole"), weights_of(tmp_path / "pieces")
    assert whole is not None and pieces is not None
    assert all(torch.equal(whole[name], pieces[name]) for name in whole)


def test_windows_of_training_are_the_engines(tiny: MiniConfig) -> None:
    torch.manual_seed(0)
    encoder = WhisperEncoder(tiny.audio.network()).eval()
    speech = utterance(3.0, np.random.default_rng(0))
    times = np.arange(150) / 50
    segment = SpeechSegment(log_mel(speech.samples), 3.0, sampled_poses(speech, times), viseme_track(speech))
    studio = Studio(encoder, AutoencoderKL(tiny.vae.network()).eval(), CPU, "fp32")
    tokens = studio.tokens(segment, np.arange(75))

    with torch.no_grad():
        windows = AudioWindows(Waveform(speech.samples), encoder, window_starts(len(speech.samples), Fraction(25)))[:]
    assert tokens.shape == (75, TOKENS, 32)
    torch.testing.assert_close(tokens, windows)


def test_latents_of_training_are_the_engines(tiny: MiniConfig) -> None:
    torch.manual_seed(0)
    vae = AutoencoderKL(tiny.vae.network()).eval()
    studio = Studio(WhisperEncoder(tiny.audio.network()).eval(), vae, CPU, "fp32")
    still = photo_still("hopper")
    speech = utterance(1.0, np.random.default_rng(0))
    segment = SpeechSegment(
        log_mel(speech.samples), 1.0, sampled_poses(speech, np.arange(50) / 50), viseme_track(speech)
    )
    shot = studio.film(still, Take(), 0.0, segment, np.arange(3))
    with torch.no_grad():
        masked, whole = vae.encode(vae_inputs(still.picture[None])[0])[0] * SCALING_FACTOR
    torch.testing.assert_close(shot.mouths[-1], whole, atol=1e-4, rtol=1e-4)
    # The blanked copy of a talking frame is that of the still: what moves lies below.
    torch.testing.assert_close(shot.masked, masked, atol=1e-4, rtol=1e-4)


def test_rescaled_latents_are_standard_and_decode_to_the_same_pictures(tiny: MiniConfig) -> None:
    torch.manual_seed(0)
    raw = AutoencoderKL(tiny.vae.network()).eval()
    people = gather_people(np.random.default_rng(0), varied=2, drawn=2, crops=1)
    scaled = autoencoder(raw.state_dict(), raw.config, people, 0, CPU)
    pictures = torch.rand(2, 3, 256, 256) * 2 - 1
    with torch.no_grad():
        mean, logvar = raw.encode(pictures)
        other, other_logvar = scaled.encode(pictures)
        torch.testing.assert_close(scaled.decode(other), raw.decode(mean), atol=1e-3, rtol=1e-3)
        draw = mean + (logvar / 2).exp()
        other_draw = other + (other_logvar / 2).exp()
        torch.testing.assert_close(scaled.decode(other_draw), raw.decode(draw), atol=1e-3, rtol=1e-3)
        faces = torch.cat([scaled.encode(_as_tensor(still.picture))[0] for still in people.photographs + people.drawn])
    assert (faces * SCALING_FACTOR).std() == pytest.approx(1, abs=0.4)


def _as_tensor(picture: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(picture[None]).permute(0, 3, 1, 2).float() / 127.5 - 1


@pytest.mark.parametrize("shape", [(16, 48), (48, 16), (32, 32)])
def test_orthogonal_directions_have_no_large_and_no_small_side(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonal(torch.randn(shape) @ torch.diag(torch.logspace(0, -1, shape[1]))))
    assert values.max() < 1.3
    assert values.min() > 0.3


def test_muon_learns_a_matrix_and_adam_the_rest() -> None:
    torch.manual_seed(0)
    network = torch.nn.Linear(32, 32)
    truth = torch.nn.Linear(32, 32).requires_grad_(False)
    optimizer = Muon(network, lr=0.02, adam_lr=0.02)
    assert [group["muon"] for group in optimizer.param_groups] == [True, False]
    for step in range(150):
        optimizer.set_share(1 - step / 150)
        inputs = torch.randn(64, 32)
        loss = (network(inputs) - truth(inputs)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss < 1e-3


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ("vae.steps=0", "steps is 0"),
        ("vae.decay=0", "decay is 0"),
        ("faces.photographs=0.9", "must not exceed 1"),
        ("unet.blur=1", "unknown key unet.blur"),
        ("audio.precision=fp8", "audio.precision"),
    ],
)
def test_impossible_recipes_are_refused(change: str, names: str) -> None:
    with pytest.raises(InputError, match=names):
        read_mini_config(RECIPE, [change])


def test_a_tenth_of_the_recipe_has_a_tenth_of_the_steps() -> None:
    whole = read_mini_config(RECIPE)
    tenth = whole.scaled(0.1)
    assert (tenth.audio.steps, tenth.vae.steps) == (whole.audio.steps // 10, whole.vae.steps // 10)
    assert tenth.vae.widths == whole.vae.widths
    with pytest.raises(InputError, match="scale is 0"):
        whole.scaled(0)
