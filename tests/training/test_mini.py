"""The training of musetalk-mini: what it is fed equals what the engine feeds, and it learns, resumes and exports."""

import json
import shutil
import signal
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import musetalk
from musetalk.audio.mel import log_mel
from musetalk.audio.waveform import SAMPLE_RATE, Waveform
from musetalk.audio.windows import AudioWindows, window_starts
from musetalk.errors import InputError, ModelFileError, MuseTalkError, OutputError
from musetalk.inpainting import TOKENS
from musetalk.latents import SCALING_FACTOR, vae_inputs
from musetalk.models.audio_encoder import WhisperEncoder
from musetalk.models.unet import UNet
from musetalk.models.vae import AutoencoderKL
from musetalk.training.mini.architecture import check_networks
from musetalk.training.mini.card import CARD
from musetalk.training.mini.config import MiniConfig, StageConfig, read_mini_config
from musetalk.training.mini.encoders import autoencoder
from musetalk.training.mini.export import export_mini
from musetalk.training.mini.pictures import draw_picture, to_tensor
from musetalk.training.mini.run import train_mini
from musetalk.training.mini.seeds import Stream, generator
from musetalk.training.mini.shots import Studio
from musetalk.training.mini.speech import SpeechSegment
from musetalk.training.mini.stage import Stage, run_stage, weights_of
from musetalk.training.mini.vae_stage import VAEStage
from musetalk.training.stopping import StopRequest
from musetalk.training.synthetic.espeak import Speech
from musetalk.training.synthetic.people import gather_people
from musetalk.training.synthetic.photos import photo_still
from musetalk.training.synthetic.take import Take
from musetalk.training.synthetic.visemes import sampled_poses, viseme_track

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "configs" / "mini.yaml"
CPU = torch.device("cpu")
TINY = (
    *("faces.drawn=2", "faces.varied=2", "faces.held_out=2", "speech.seconds=6", "speech.held_out=2"),
    *("audio.steps=8", "audio.batch_size=1", "audio.pool=2", "audio.validate_every=4", "audio.checkpoint_every=4"),
    *("audio.channels=32", "audio.ffn_channels=32", "audio.heads=2"),
    *("vae.steps=8", "vae.batch_size=2", "vae.validate_every=4", "vae.checkpoint_every=4"),
    *("vae.widths=[8, 8, 16, 16]", "vae.precision=fp32", "vae.held_out=2", "vae.scaled_by=12"),
    *("unet.steps=8", "unet.batch_size=4", "unet.pool=1", "unet.frames=4", "unet.validate_every=4"),
    *("unet.checkpoint_every=4", "unet.widths=[16, 32, 32]", "unet.groups=8", "unet.heads=2"),
    *("unet.held_out_faces=1", "unet.held_out_frames=12"),
)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> MiniConfig:
    output = tmp_path_factory.mktemp("mini")
    return read_mini_config(RECIPE, [*TINY, f"output={output}"])


@pytest.fixture(scope="module")
def trained(tiny: MiniConfig, fresh_speech: Callable[[int], Speech]) -> Path:
    fresh_speech(0)  # skips the test where nothing can speak
    report = train_mini(tiny, device="cpu")
    assert report.finished == ("audio", "vae", "unet")
    assert report.stopped is None
    assert report.models is not None
    return report.models


@pytest.fixture
def copied(tiny: MiniConfig, trained: Path, tmp_path: Path) -> MiniConfig:
    """The finished training in a folder of its own."""
    shutil.copytree(tiny.output, tmp_path / "copy")
    return replace(tiny, output=tmp_path / "copy")


def validations(folder: Path) -> list[dict[str, float]]:
    lines = (folder / "losses.jsonl").read_text().splitlines()
    return [entry for entry in map(json.loads, lines) if any("/" in name for name in entry)]


def newest(stage: Path) -> Path:
    return max((stage / "checkpoints").iterdir())


def contents(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_every_stage_gets_better_at_samples_it_is_not_trained_on(tiny: MiniConfig, trained: Path) -> None:
    audio, vae, unet = (validations(tiny.output / stage) for stage in ("audio", "vae", "unet"))
    assert len(audio) == len(vae) == len(unet) == 2
    assert audio[-1]["validation/loss"] < audio[0]["validation/loss"]
    for kind in ("photographs", "varied", "drawn"):
        assert vae[-1][f"validation/{kind}/psnr"] > vae[0][f"validation/{kind}/psnr"]
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
    stages = [tiny.output / stage for stage in ("audio", "vae", "unet")]
    before = [contents(stage) for stage in stages]
    unet = trained / "musetalkV15" / "unet.safetensors"
    weights = load_file(unet)
    report = train_mini(replace(tiny, vae=replace(tiny.vae, validate_every=1)), device="cpu")
    assert report.finished == ("audio", "vae", "unet")
    assert [contents(stage) for stage in stages] == before
    assert all(torch.equal(weights[name], value) for name, value in load_file(unet).items())


@pytest.mark.parametrize(
    ("section", "change", "names"),
    [
        ("audio", {"steps": 4}, r"stage audio in .*/audio was trained with steps 8 \(now 4\)"),
        ("audio", {"steps": 16}, r"steps 8 \(now 16\)"),
        ("audio", {"channels": 64}, r"channels 32 \(now 64\)"),
        ("speech", {"seconds": 7.0}, r"speech.seconds 6.0 \(now 7.0\)"),
        ("faces", {"drawn": 3}, r"stage vae in .* faces.drawn 2 \(now 3\).* another output, or delete .*/vae"),
    ],
)
def test_a_finished_stage_that_was_trained_otherwise_is_refused(
    section: str, change: dict[str, float], names: str, tiny: MiniConfig, trained: Path
) -> None:
    with pytest.raises(InputError, match=names):
        train_mini(replace(tiny, **{section: replace(getattr(tiny, section), **change)}), device="cpu")


def test_a_unet_of_another_autoencoder_is_refused(copied: MiniConfig) -> None:
    path = newest(copied.output / "vae") / "weights.safetensors"
    weights = load_file(path)
    weights["decoder.conv_out.bias"] += 0.1
    save_file(weights, path)
    with pytest.raises(InputError, match=r"stage unet in .*/unet was trained with networks\.vae \w+ \(now \w+\);"):
        train_mini(copied, device="cpu")


def test_from_a_damaged_checkpoint_on_a_stage_is_trained_again_and_validated_with_the_same_speech(
    copied: MiniConfig,
) -> None:
    stage = copied.output / "unet"
    before, checkpoint = validations(stage)[-1], newest(stage)
    path = checkpoint / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ModelFileError, match=r"damaged .* delete it, and the same command goes on") as caught:
        train_mini(copied, device="cpu")
    assert "--resume" not in str(caught.value)
    shutil.rmtree(checkpoint)
    assert train_mini(copied, device="cpu").models is not None
    after = validations(stage)[-1]
    # The training's own speech differs a little, and so may what is learnt from it.
    ceilings = [name for name in before if name.endswith("ceiling")]
    assert len(ceilings) == 3
    assert all(before[name] == after[name] for name in ceilings)


def test_damaged_held_out_speech_is_named(copied: MiniConfig) -> None:
    stage = copied.output / "audio"
    shutil.rmtree(newest(stage))
    (stage / "held_out_speech.safetensors").write_bytes(b"noise")
    with pytest.raises(InputError, match=r"held_out_speech\.safetensors: damaged .* delete it"):
        train_mini(copied, device="cpu")


def test_a_resumed_stage_ends_as_one_that_never_stopped(tiny: MiniConfig, tmp_path: Path) -> None:
    config = replace(tiny, vae=replace(tiny.vae, steps=2, checkpoint_every=1, validate_every=2))
    request = StopRequest()
    assert run_stage(VAEStage(config, CPU), tmp_path / "whole", request)
    shutil.copytree(tmp_path / "whole", tmp_path / "pieces")
    shutil.rmtree(newest(tmp_path / "pieces"))
    assert run_stage(VAEStage(config, CPU), tmp_path / "pieces", request)
    whole, pieces = weights_of(tmp_path / "whole"), weights_of(tmp_path / "pieces")
    assert all(torch.equal(whole[name], pieces[name]) for name in whole)


class Line(Stage[torch.nn.Linear]):
    """As small as a stage can be; its user may press Ctrl-C in the first validation."""

    name, stream = "line", Stream.VAE_STEPS

    def __init__(self, steps: int, presses: bool) -> None:
        self.presses = presses
        config = StageConfig(steps, 1, validate_every=2, checkpoint_every=100)
        super().__init__(config, torch.nn.Linear(2, 1), CPU, seed=0)

    def prepare(self, folder: Path) -> None:
        pass

    def losses(self, step: int) -> dict[str, torch.Tensor]:
        inputs = torch.from_numpy(self.step_generator(step).random((4, 2), np.float32))
        return {"loss": self.network(inputs).square().mean()}

    def validate(self) -> dict[str, float]:
        if self.presses:
            self.presses = False
            signal.raise_signal(signal.SIGINT)
        return {"figure": 0.0}


@pytest.mark.parametrize(("steps", "finished"), [(2, True), (5, False)])
def test_ctrl_c_in_a_validation_ends_the_run_after_a_checkpoint(steps: int, finished: bool, tmp_path: Path) -> None:
    with StopRequest() as request:
        assert run_stage(Line(steps, presses=True), tmp_path / "first", request) is finished
        assert newest(tmp_path / "first").name == "step-000002"
        # Nor does the next stage begin.
        assert not run_stage(Line(steps, presses=False), tmp_path / "next", request)
        assert not (tmp_path / "next").exists()
    assert run_stage(Line(steps, presses=False), tmp_path / "first", StopRequest())


def test_no_two_purposes_share_random_numbers() -> None:
    draws = {generator(stream, seed, index).random() for stream in Stream for seed in (0, 6) for index in (0, 1, 6)}
    assert len(draws) == len(Stream) * 6


def segment_of(speech: Speech) -> SpeechSegment:
    times = np.arange(int(speech.duration * 50)) / 50
    return SpeechSegment(log_mel(speech.samples), sampled_poses(speech, times), viseme_track(speech))


def test_windows_of_training_are_the_engines(tiny: MiniConfig, talking: ModuleType) -> None:
    torch.manual_seed(0)
    encoder = WhisperEncoder(tiny.audio.network()).eval()
    speech = talking.sentence()
    segment = segment_of(speech)
    studio = Studio(encoder, AutoencoderKL(tiny.vae.network()).eval(), CPU, "fp32")
    count = len(segment.frames.poses)
    tokens = studio.tokens(segment, np.arange(count))

    with torch.no_grad(), Waveform() as waveform:
        waveform.append(speech.samples)
        windows = AudioWindows(waveform, encoder, window_starts(len(speech.samples), Fraction(25)))[:]
    assert tokens.shape == (count, TOKENS, 32)
    torch.testing.assert_close(tokens, windows)


def test_latents_of_training_are_the_engines(tiny: MiniConfig, talking: ModuleType) -> None:
    torch.manual_seed(0)
    vae = AutoencoderKL(tiny.vae.network()).eval()
    studio = Studio(WhisperEncoder(tiny.audio.network()).eval(), vae, CPU, "fp32")
    still = photo_still("hopper")
    shot = studio.film(still, Take(), 0.0, segment_of(talking.sentence()), np.arange(10, 13))
    with torch.no_grad():
        masked, whole = vae.encode(vae_inputs(still.picture[None])[0])[0] * SCALING_FACTOR
    torch.testing.assert_close(shot.mouths[-1], whole, atol=1e-4, rtol=1e-4)
    # The blanked copy of a talking frame is that of the still: what moves lies below.
    torch.testing.assert_close(shot.masked, masked, atol=1e-4, rtol=1e-4)


def test_rescaled_latents_are_standard_and_decode_to_the_same_pictures(tiny: MiniConfig) -> None:
    torch.manual_seed(0)
    config = replace(tiny.vae, scaled_by=24)
    raw = AutoencoderKL(config.network()).eval()
    people = gather_people(np.random.default_rng(0), varied=2, drawn=2, crops=1)
    scaled = autoencoder(raw.state_dict(), config, people, 0, CPU)
    pictures = torch.rand(2, 3, 256, 256) * 2 - 1
    rng = generator(Stream.LATENTS, 0)
    faces = to_tensor(np.stack([draw_picture(people.draw(rng, 1 / 3, 1 / 3), rng) for _ in range(config.scaled_by)]))
    with torch.no_grad():
        mean, logvar = raw.encode(pictures)
        other, other_logvar = scaled.encode(pictures)
        torch.testing.assert_close(scaled.decode(other), raw.decode(mean), atol=1e-3, rtol=1e-3)
        draw = mean + (logvar / 2).exp()
        other_draw = other + (other_logvar / 2).exp()
        torch.testing.assert_close(scaled.decode(other_draw), raw.decode(draw), atol=1e-3, rtol=1e-3)
        latents = scaled.encode(faces)[0] * SCALING_FACTOR
    torch.testing.assert_close(latents.mean(dim=(0, 2, 3)), torch.zeros(4), atol=1e-3, rtol=0)
    torch.testing.assert_close(latents.std(dim=(0, 2, 3)), torch.ones(4), atol=1e-3, rtol=0)


@pytest.fixture
def parts(tiny: MiniConfig) -> tuple[UNet, AutoencoderKL, WhisperEncoder]:
    audio = tiny.audio.network()
    return UNet(tiny.unet.network(audio)), AutoencoderKL(tiny.vae.network()), WhisperEncoder(audio)


def test_an_export_carries_the_model_card_of_the_package(
    parts: tuple[UNet, AutoencoderKL, WhisperEncoder], tmp_path: Path
) -> None:
    unet, vae, audio = parts
    export_mini(tmp_path / "models", unet.state_dict(), unet.config, vae, audio)
    assert (tmp_path / "models" / "README.md").read_text(encoding="utf-8") == CARD
    assert (ROOT / "musetalk" / "models" / "mini" / "README.md").read_text(encoding="utf-8") == CARD


@pytest.mark.parametrize("place", ["models", ".models.old"])
def test_a_failed_export_leaves_the_older_one(
    place: str,
    parts: tuple[UNet, AutoencoderKL, WhisperEncoder],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    unet, vae, audio = parts
    (tmp_path / place).mkdir()
    (tmp_path / place / "mark").touch()
    rename = Path.rename

    def refused(path: Path, target: Path) -> Path:
        if path.name == ".models.part":
            raise PermissionError("in use")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(OutputError, match="in use"):
        export_mini(tmp_path / "models", unet.state_dict(), unet.config, vae, audio)
    assert [path.name for path in tmp_path.iterdir()] == ["models"]
    assert (tmp_path / "models" / "mark").exists()


def test_weights_that_float16_cannot_hold_are_not_exported(
    parts: tuple[UNet, AutoencoderKL, WhisperEncoder], tmp_path: Path
) -> None:
    unet, vae, audio = parts
    with torch.no_grad():
        unet.conv_out.bias[0] = 70000
    with pytest.raises(MuseTalkError, match=r"UNet's conv_out\.bias has values that float16"):
        export_mini(tmp_path / "models", unet.state_dict(), unet.config, vae, audio)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ("vae.steps=0", "steps is 0"),
        ("vae.decay=0", "decay is 0"),
        ("vae.clip=0", "vae: clip is 0"),
        ("vae.kl=-1", "kl is -1"),
        ("vae.widths=[16, 16, 32]", "give 4 of them"),
        ("vae.widths=[16, 16, 32, 60]", "multiples of groups 8"),
        ("vae.groups=0", "groups is 0"),
        ("faces.photographs=0.9", "must not exceed 1"),
        ("faces.held_out=1", "held_out is 1"),
        ("speech.seconds=31", "seconds is 31"),
        ("unet.held_out_frames=800", "held_out_frames is 800, but 30.0 s"),
        ("unet.blur=1", "unknown key unet.blur"),
        ("unet.pool=0", "pool is 0"),
        ("unet.steps_per_shot=0", "steps_per_shot is 0"),
        ("unet.frames=1", "frames is 1"),
        ("unet.shut=-1", "shut is -1"),
        ("unet.widths=[64, 128]", "one of each per level"),
        ("unet.heads=5", "multiples of heads 5"),
        ("unet.held_out_faces=49", "faces.held_out is only 48"),
        ("audio.precision=fp8", "audio.precision"),
        ("audio.batch_size=65", "pool holds 64 segments"),
        ("audio.fresh=65", "fresh is 65"),
        ("audio.heads=3", "multiples of heads 3"),
        ("audio.channels=129", "multiples of"),
        ("seed=-1", "seed is -1"),
    ],
)
def test_impossible_recipes_are_refused(change: str, names: str) -> None:
    with pytest.raises(InputError, match=names):
        read_mini_config(RECIPE, [change])


@pytest.mark.parametrize(
    ("change", "names"),
    [
        (
            "audio.layers=3",
            "audio.layers is 3, which makes 40 audio tokens a frame; the engine takes 50, so set it to 4",
        ),
        ("unet.widths=[64, 64, 64, 64, 64, 64, 64, 64]", "cannot be built"),
    ],
)
def test_networks_that_do_not_fit_are_refused_before_any_is_trained(change: str, names: str) -> None:
    levels = ["unet.attention=[true, false, false, false, false, false, false, false]"] if "64, 64" in change else []
    with pytest.raises(InputError, match=names):
        check_networks(read_mini_config(RECIPE, [change, *levels]))


def test_a_tenth_of_the_recipe_has_a_tenth_of_the_steps() -> None:
    whole = read_mini_config(RECIPE)
    tenth = whole.scaled(0.1)
    assert (tenth.audio.steps, tenth.vae.steps) == (whole.audio.steps // 10, whole.vae.steps // 10)
    assert tenth.vae.widths == whole.vae.widths
    with pytest.raises(InputError, match="scale is 0"):
        whole.scaled(0)
