"""Configurations: the presets say upstream's numbers, and whatever is wrong is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from musetalk.errors import InputError
from musetalk.training.config import OptimizerConfig, TrainingConfig, read_config
from musetalk.training.losses import PRESETS
from musetalk.training.schedule import learning_rate

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
MINIMAL = "output: out\nsteps: 10\ndata:\n  path: data\n"


def read(tmp_path: Path, text: str, *overrides: str) -> TrainingConfig:
    path = tmp_path / "run.yaml"
    path.write_text(text, encoding="utf-8")
    return read_config(path, overrides)


def test_stage_1_says_upstreams_numbers():
    config = read_config(CONFIGS / "stage1.yaml")
    assert (config.data.batch_size, config.data.frames, config.accumulation) == (32, 1, 1)
    assert (config.steps, config.optimizer.lr, config.optimizer.warmup) == (250_000, 2e-5, 1000)
    assert (config.optimizer.betas, config.optimizer.weight_decay, config.optimizer.clip) == ((0.5, 0.999), 0.01, 1.0)
    assert (config.data.min_face, config.data.margin, config.model.unet) == (150, "none", "random")
    weights = config.losses.weights
    assert (weights.l1, weights.perceptual, weights.gan, weights.mouth_gan, weights.sync) == (1.0, 0.01, 0, 0, 0)


def test_stage_2_says_upstreams_numbers_in_optimiser_steps():
    config = read_config(CONFIGS / "stage2.yaml")
    assert (config.data.batch_size, config.data.frames, config.accumulation) == (2, 16, 8)
    assert config.steps * config.accumulation == 250_000
    assert config.losses.weights.gan_start * config.accumulation == 1000
    assert (config.optimizer.lr, config.discriminator.lr, config.discriminator.final_lr) == (5e-6, 5e-6, 1e-6)
    assert (config.data.min_face, config.data.margin, config.data.margin_mean) == (200, "normal", 10)
    weights = config.losses.weights
    assert (weights.l1, weights.perceptual, weights.gan, weights.mouth_gan, weights.sync) == (1, 0.01, 0.01, 0.01, 0.05)
    assert weights.feature_matching == weights.mouth_feature_matching == 1


def test_stage_2_follows_upstreams_schedule_with_the_values_it_names():
    """Upstream's linear schedule: 8 x 1000 steps up, then down to 0 at 8 x 250,000, of which the run has 31,250."""
    path = CONFIGS / "stage2.yaml"
    config = read_config(path, ["optimizer.warmup=8000", "optimizer.final_lr=4.94e-6"])
    for step in (0, 4000, 8000, 20_000, 31_250):
        expected = 5e-6 * min(step / 8000, (2_000_000 - step) / (2_000_000 - 8000))
        assert learning_rate(config.optimizer, step, config.steps) == pytest.approx(expected, rel=1e-3)
    assert learning_rate(config.discriminator, 31_250, 2_000_000) == pytest.approx(5e-6, rel=1e-3)
    assert learning_rate(read_config(path).optimizer, 31_250, config.steps) == 0


@pytest.mark.parametrize("name", ["stage1.yaml", "stage2.yaml"])
def test_every_preset_value_has_its_source_beside_it(name: str):
    lines = (CONFIGS / name).read_text(encoding="utf-8").splitlines()
    values = [line for line in lines if line.strip() and not line.lstrip().startswith("#") and not line.endswith(":")]
    values = [line for line in values if not line.startswith("discriminator:")]
    assert len(values) > 25
    assert [line for line in values if not any(mark in line for mark in ("# [up]", "# [py]", "# [ours]"))] == []


def test_overrides_reach_every_level_and_keep_the_rest(tmp_path: Path):
    overrides = ("steps=7", "data.batch_size=3", "losses.preset=paper", "losses.sync=0", "optimizer.lr=2e-5")
    config = read(tmp_path, MINIMAL, *overrides)
    assert (config.steps, config.data.batch_size, config.data.path) == (7, 3, Path("data"))
    assert config.losses.weights.gan == PRESETS["paper"].gan
    assert config.losses.weights.sync == 0
    assert config.optimizer.lr == 2e-5  # YAML reads 2e-5 as a text


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optimiser.lr=1", "unknown key optimiser; did you mean optimizer"),
        ("data.batchsize=1", r"unknown key data.batchsize; did you mean data.batch_size"),
        ("data.batch_size=2.5", "data.batch_size is 2.5, of type float; it must be of type int"),
        ("data.batch_size=true", "data.batch_size is True"),
        ("data.batch_size=0", "data: batch_size is 0; it must be at least 1"),
        ("data=clips", "data is 'clips'; it must be a section"),
        ("data.path=", "data.path is None"),
        ("data.reference=best", "data.reference is 'best'; use one of informative, random"),
        ("optimizer.lr=fast", "optimizer.lr is 'fast'"),
        ("optimizer.lr=-1", "optimizer: lr is -1"),
        ("optimizer.lr=.nan", "optimizer.lr is nan; it must be a finite number"),
        ("optimizer.lr=.inf", "finite"),
        ("optimizer.betas=[0.5]", "betas are"),
        ("optimizer.betas=0.5", "optimizer.betas is 0.5; it must be a list"),
        ("optimizer.betas=[0.5, x]", r"optimizer.betas\[1\] is 'x'"),
        ("optimizer.clip=0", "clip is 0"),
        ("optimizer.warmup=10", "warmup is 10, but there are only 10 steps"),
        ("losses.preset=mine", "preset is 'mine'; use one of"),
        ("losses.gan=-1", "gan is -1"),
        ("losses={l1: 0, perceptual: 0, gan: 1, gan_start: 5}", "losses: no loss of the pictures counts at step 0"),
        ("losses={l1: 0, perceptual: 0, sync: 1}", "losses: no loss of the pictures counts at step 0"),
        ("losses.sync=0.05", "data.frames is 1, but SyncNet looks at 16"),
        ("model.architecture=a.json", "architecture is only for unet: random"),
        ("precision=int8", "precision is 'int8'; use one of fp32, bf16, fp16"),
        ("ema_decay=1", "ema_decay is 1"),
        ("seed=-1", "seed is -1"),
        ("steps", "write it as key=value"),
        ("steps.a=1", "steps is a value, not a section"),
        ("data.path=[", "not YAML"),
    ],
)
def test_refusals(tmp_path: Path, override: str, message: str):
    with pytest.raises(InputError, match=message):
        read(tmp_path, MINIMAL, override)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: 3\ndata: {path: d}", "output is missing"),
        ("output: o\ndata: {path: d}", "steps is missing"),
        ("output: o\nsteps: 3\ndata: {}", "data.path is missing"),
        ("- 1", "holds a list"),
        ("a: [", "not YAML"),
        ("!!python/object/apply:os.system ['true']", "not YAML"),
        ("", "holds a NoneType"),
        (f"{MINIMAL}losses: {{l1: 0, perceptual: 0}}", "losses: every weight is 0"),
    ],
)
def test_files_that_are_no_configuration(tmp_path: Path, text: str, message: str):
    with pytest.raises(InputError, match=message):
        read(tmp_path, text)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"none\.yaml: cannot be read"):
        read_config(tmp_path / "none.yaml")


def test_learning_rate_rises_then_falls():
    config = OptimizerConfig(lr=1.0, schedule="linear", warmup=4, final_lr=0.2)
    assert [learning_rate(config, step, 8) for step in (0, 2, 4, 6, 8)] == pytest.approx([0, 0.5, 1, 0.6, 0.2])
    cosine = OptimizerConfig(lr=1.0, schedule="cosine", final_lr=0.5)
    assert [learning_rate(cosine, step, 8) for step in (0, 4, 8, 9)] == pytest.approx([1, 0.75, 0.5, 0.5])
    assert learning_rate(OptimizerConfig(lr=1.0, schedule="constant"), 5, 8) == 1.0
