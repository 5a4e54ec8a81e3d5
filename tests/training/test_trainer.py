"""Steps: what they compute, that they learn, and that how the work is split does not matter."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from accelerate.optimizer import AcceleratedOptimizer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from musetalk.errors import InputError, ModelFileError, MuseTalkError
from musetalk.inpainting import positional_encoding, predict_latents
from musetalk.models import Models
from musetalk.models.syncnet import SyncNet
from musetalk.models.unet import UNet, UNetConfig
from musetalk.training.batches import check_batch, training_batches
from musetalk.training.config import DataConfig, LossConfig, TrainingConfig
from musetalk.training.ema import MovingAverage
from musetalk.training.generator import Generator
from musetalk.training.losses import LossWeights
from musetalk.training.memory import MemoryEstimate, estimate_memory
from musetalk.training.networks import build_networks, find_networks
from musetalk.training.recompute import recompute_blocks
from musetalk.training.run import train

from .runs import (
    linear_optimizer,
    make_batches,
    make_config,
    make_trainer,
    start_two,
    tiny_objective,
    two_process_config,
    weights_of,
    write_dataset,
)

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("training") / "data")


@pytest.fixture
def config(data: Path, narrow_models_dir: Path, tmp_path: Path) -> TrainingConfig:
    return make_config(data, narrow_models_dir, tmp_path / "run")


@pytest.fixture
def full_width(data: Path, tiny_models_dir: Path, tmp_path: Path) -> TrainingConfig:
    """Narrow networks have large gradients: two ways to the same sum differ by more, and a few steps teach less."""
    return make_config(data, tiny_models_dir, tmp_path / "run")


def test_training_sees_what_inference_sees(config: TrainingConfig, narrow_models: Models):
    """The positional encoding, the order of the latents and their scale are those of `predict_latents`."""
    (batch,) = make_batches(config, 1)
    generator = Generator(narrow_models.unet, narrow_models.vae, narrow_models.audio_encoder)
    inputs = generator.prepare(batch)
    predicted = generator.predict(inputs)
    torch.testing.assert_close(
        predicted, predict_latents(narrow_models, inputs.latents, inputs.windows), rtol=0, atol=1e-6
    )
    bare = narrow_models.unet(inputs.latents, inputs.windows)
    assert (bare - predicted).abs().max() > 1e-3  # and without the encoding it would be another picture


def test_stage_1_learns_a_fixed_batch(config: TrainingConfig):
    weights = LossWeights(l1=1.0, perceptual=0.01)
    trainer = make_trainer(config, make_batches(config, 1), tiny_objective(weights))
    losses = [trainer.step() for _ in range(4)]
    assert losses[-1]["loss"] < 0.9 * losses[0]["loss"]
    assert set(losses[0]) == {"loss", "l1", "perceptual", "gradient_norm", "lr"}
    first = losses[0]
    assert first["loss"] == pytest.approx(first["l1"] + 0.01 * first["perceptual"], rel=1e-5)


def test_stage_2_learns_a_fixed_batch(full_width: TrainingConfig, tiny_syncnet: SyncNet):
    """All losses, one frame of sixteen drawn; the discriminators join at the second step and learn too."""
    config = replace(
        full_width,
        data=replace(full_width.data, frames=16, margin="normal"),
        losses=replace(full_width.losses, backward_frames=1),
    )
    weights = LossWeights(
        l1=1.0,
        perceptual=0.01,
        gan=0.01,
        feature_matching=0.1,
        mouth_gan=0.01,
        mouth_feature_matching=0.1,
        sync=0.05,
        gan_start=1,
        feature_matching_start=1,
    )
    (batch,) = make_batches(config, 1)
    for name in ("targets", "references", "mouth", "window_starts"):  # whichever frame is drawn
        batch[name] = batch[name][:, :1].expand_as(batch[name]).contiguous()
    trainer = make_trainer(config, [batch], tiny_objective(weights, tiny_syncnet))
    before = weights_of(trainer)
    losses = [trainer.step() for _ in range(4)]
    assert "gan" not in losses[0]
    assert {"gan", "mouth_gan", "feature_matching", "sync", "discriminator_face"} <= set(losses[1])
    # The same parts are in the loss of the steps compared.
    assert losses[-1]["loss"] < losses[1]["loss"]
    assert losses[-1]["discriminator_face"] < losses[1]["discriminator_face"]
    after = weights_of(trainer)
    assert any(not torch.equal(before[name], after[name]) for name in after if name.startswith("judge.mouth"))
    assert all(p.grad is None for p in trainer.objective.sync.parameters())


def test_two_halves_accumulated_are_one_batch(full_width: TrainingConfig):
    config = replace(full_width, optimizer=linear_optimizer())
    first, second = make_batches(config, 2)
    joined = {name: torch.cat((first[name], second[name])) for name in first}
    whole = make_trainer(config, [joined])
    whole_values = whole.step()
    halves = make_trainer(replace(config, accumulation=2), [first, second])
    values = halves.step()
    assert halves.steps == 1
    assert values["loss"] == pytest.approx(whole_values["loss"], rel=1e-5)
    assert values["gradient_norm"] == pytest.approx(whole_values["gradient_norm"], rel=1e-4)
    expected, found = weights_of(whole), weights_of(halves)
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-6, msg=name)


def test_two_processes_are_one_with_the_joined_batch(full_width: TrainingConfig, tmp_path: Path):
    pair = make_batches(full_width, 2)
    joined = {name: torch.cat([batch[name] for batch in pair]) for name in pair[0]}
    batch_file, output = tmp_path / "batch.safetensors", tmp_path / "weights.safetensors"
    save_file(joined, batch_file)
    arguments = [str(path) for path in (full_width.data.path, full_width.model.folder, batch_file, output)]
    code = (
        "import sys, pathlib; from tests.training.runs import train_one_of_several as run; "
        "run(*map(pathlib.Path, sys.argv[1:]))"
    )
    processes = start_two(code, arguments, arguments)
    trainer = make_trainer(two_process_config(full_width.data.path, full_width.model.folder, output), [joined])
    before = weights_of(trainer)
    loss = trainer.step()["loss"]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors[-2000:]
    found, expected = load_file(output), weights_of(trainer)
    assert found.pop("loss").item() == pytest.approx(loss, rel=1e-6)
    assert found.keys() == expected.keys()
    for network in ("unet.", "judge.face.", "judge.mouth."):
        changes = [(expected[name] - before[name]).abs().max() for name in expected if name.startswith(network)]
        assert max(changes) > 1e-4, network
    for name in expected:
        torch.testing.assert_close(found[name], expected[name], rtol=0, atol=1e-6, msg=name)


def test_average_follows_its_formula():
    network = nn.Linear(1, 1, bias=False)
    average = MovingAverage(network, decay=0.5)
    expected = start = network.weight.item()
    for update in range(1, 6):
        with torch.no_grad():
            network.weight.add_(1.0)
        average.update()
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * network.weight.item()
    assert average.state_dict()["weight"].item() == pytest.approx(expected, rel=1e-6)
    with average.applied():
        assert network.weight.item() == pytest.approx(expected, rel=1e-6)
    assert network.weight.item() == pytest.approx(start + 5)


def test_recomputed_blocks_keep_less_and_give_the_same_gradients(narrow_models: Models):
    latents, tokens = torch.randn(1, 8, 32, 32), torch.randn(1, 50, 64)

    def gradients(unet: UNet) -> tuple[int, list[Tensor]]:
        unet.requires_grad_(True)
        kept = 0

        def pack(tensor: Tensor) -> Tensor:
            nonlocal kept
            kept += 0 if isinstance(tensor, nn.Parameter) else tensor.numel()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            loss = unet(latents, tokens).square().mean()
        return kept, list(torch.autograd.grad(loss, list(unet.parameters())))

    def copy() -> UNet:
        unet = UNet(narrow_models.unet.config)
        unet.load_state_dict(narrow_models.unet.state_dict())
        return unet

    plain_kept, plain = gradients(copy())
    recomputed = copy()
    names = list(recomputed.state_dict())
    assert recompute_blocks(recomputed) > 10
    assert list(recomputed.state_dict()) == names
    kept, found = gradients(recomputed)
    assert kept < plain_kept / 4
    assert all(torch.equal(a, b) for a, b in zip(found, plain, strict=True))


def test_memory_is_counted(config: TrainingConfig, random_models):
    """What is kept is known exactly; what passes grows with the batch and shrinks when activations are recomputed."""

    unet = UNetConfig(block_out_channels=(32, 64), attention=(True, False), layers_per_block=1, norm_num_groups=8)

    def count(batch_size: int, *, recompute: bool) -> MemoryEstimate:
        model = replace(config.model, gradient_checkpointing=recompute, vae_gradient_checkpointing=recompute)
        changed = replace(config, data=replace(config.data, batch_size=batch_size), model=model)
        return estimate_memory(changed, unet, random_models.TINY_VAE)

    plain, recomputed, three = count(1, recompute=False), count(1, recompute=True), count(3, recompute=True)
    weights = 4 * sum(p.numel() for p in UNet(unet).parameters())
    assert plain.kept["UNet weights"] == plain.kept["UNet gradients"] == plain.kept["UNet average (EMA)"] == weights
    assert plain.kept["UNet optimiser (AdamW)"] == 2 * weights
    assert recomputed.passing < plain.passing / 2
    assert three.passing > 2 * recomputed.passing
    assert three.total == sum(three.kept.values()) + three.passing
    assert type(positional_encoding(384)) is Tensor  # the tensors without values stayed inside


def test_a_loss_that_is_no_number_ends_the_run(config: TrainingConfig):
    (batch,) = make_batches(config, 1)
    batch["references"] = batch["references"] * float("nan")
    with pytest.raises(MuseTalkError, match="the loss of step 1 is nan"):
        make_trainer(config, [batch]).step()


@pytest.mark.parametrize(("network", "message"), [("unet", "gradient's norm of step 1"), ("judge", "discriminators'")])
def test_a_gradient_that_is_no_number_reaches_no_weight(config: TrainingConfig, network: str, message: str):
    losses = LossConfig(perceptual=0.0, gan=0.01)
    trainer = make_trainer(replace(config, losses=losses, accumulation=2), make_batches(config, 1))
    learning = trainer.unet if network == "unet" else trainer.discriminators
    next(learning.parameters()).register_hook(lambda gradient: gradient * float("inf"))
    before = [parameter.detach().clone() for parameter in learning.parameters()]
    with pytest.raises(MuseTalkError, match=message) as caught:
        trainer.step()
    assert "--resume PATH" in str(caught.value)
    assert all(torch.equal(a, b) for a, b in zip(learning.parameters(), before, strict=True))


def test_with_a_scaler_a_gradient_out_of_range_is_skipped(config: TrainingConfig):
    trainer = make_trainer(config, make_batches(config, 1))
    accelerator = trainer.accelerator  # which has a scaler on GPUs alone
    accelerator.scaler = scaler = torch.amp.GradScaler("cpu", init_scale=8.0)
    trainer.optimizer = AcceleratedOptimizer(trainer.optimizer.optimizer, scaler=scaler)
    accelerator._optimizers[:] = [trainer.optimizer]
    parameter = next(trainer.unet.parameters())
    hook = parameter.register_hook(lambda gradient: gradient * float("inf"))
    before = weights_of(trainer)
    trainer.step()
    assert all(torch.equal(before[name], value) for name, value in weights_of(trainer).items())
    assert scaler.get_scale() == 4.0
    hook.remove()
    trainer.step()
    assert not torch.equal(before["unet." + next(trainer.unet.named_parameters())[0]], parameter)


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("targets", lambda t: t * 255, "targets lies in"),
        ("references", lambda t: t * 0, "references lies in"),
        ("mel", lambda t: t[..., :100], r"mel is \[1, 80, 100\]"),
        ("mel", lambda t: t * float("inf"), "mel has values that are no finite numbers"),
        ("window_starts", lambda t: t.float(), "window_starts is"),
        ("mouth", lambda t: None, "mouth is missing"),
    ],
)
def test_a_bad_first_batch_is_refused(config: TrainingConfig, first_batch, name: str, spoil, message: str):
    with pytest.raises(InputError, match=message):
        check_batch({**first_batch, name: spoil(first_batch[name])}, config)


@pytest.fixture(scope="module")
def first_batch(data: Path, narrow_models_dir: Path) -> dict[str, Tensor]:
    return make_batches(make_config(data, narrow_models_dir, Path("unused")), 1)[0]


def test_missing_weights_are_named_before_anything_heavy(config: TrainingConfig, tmp_path: Path):
    wanting = replace(config, data=replace(config.data, frames=16), losses=LossConfig(preset="upstream"))
    with pytest.raises(ModelFileError) as caught:
        train(wanting)
    for part in ("vgg19-dcbb9e9d.pth", "losses.perceptual: 0", "latentsync_syncnet.pt", "losses.sync: 0", "https://"):
        assert part in str(caught.value)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(ModelFileError, match="vae, audio_encoder, unet missing"):
        find_networks(replace(config, model=replace(config.model, folder=empty, unet="pretrained", architecture=None)))
    assert not (config.output).exists()


def test_no_data_set_is_an_error_before_networks(config: TrainingConfig, tmp_path: Path):
    with pytest.raises(InputError, match=r"dataset\.json"):
        train(replace(config, data=DataConfig(path=tmp_path / "nothing")))
    with pytest.raises(InputError, match="min_face"):
        train(replace(config, data=replace(config.data, min_face=999)))


def test_a_start_from_scratch_is_the_seeds(config: TrainingConfig):
    def first_weight(seed: int) -> Tensor:
        torch.manual_seed(seed)
        unet = build_networks(find_networks(config), config, torch.device("cpu")).unet
        return next(unet.parameters())

    assert torch.equal(first_weight(1), first_weight(1))
    assert not torch.equal(first_weight(1), first_weight(2))


def test_workers_give_batches_too(config: TrainingConfig):
    """With a loader's process, the stream goes on where it stopped."""
    config = replace(config, data=replace(config.data, workers=1))
    stream = training_batches(config, 0, 1, 0)
    batches = [next(stream) for _ in range(3)]
    (again,) = (next(training_batches(config, 0, 1, 2)) for _ in range(1))
    assert torch.equal(again["targets"], batches[2]["targets"])


def test_workers_leave_signals_to_the_trainer(config: TrainingConfig):
    stream = training_batches(replace(config, data=replace(config.data, workers=1)), 0, 1, 0)
    next(stream)
    (worker,) = multiprocessing.active_children()
    for number in (signal.SIGINT, signal.SIGTERM):
        os.kill(worker.pid, number)
    for _ in range(6):  # more than the loader had asked for before
        next(stream)
    assert worker.is_alive()
    del stream
    gc.collect()
    worker.join(20)
    assert worker.exitcode == 0


def test_workers_end_when_their_trainer_is_gone(config: TrainingConfig):
    code = (
        "import sys, os, pathlib, multiprocessing; from dataclasses import replace\n"
        "from tests.training.runs import make_config, training_batches\n"
        "config = make_config(*map(pathlib.Path, sys.argv[1:4]))\n"
        "stream = training_batches(replace(config, data=replace(config.data, workers=1)), 0, 1, 0)\n"
        "next(stream)\n"
        "print(multiprocessing.active_children()[0].pid, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    arguments = [str(path) for path in (config.data.path, config.model.folder, config.output)]
    run = subprocess.run([sys.executable, "-c", code, *arguments], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    status = Path(f"/proc/{int(run.stdout)}/stat")
    deadline = time.monotonic() + 30
    while status.exists() and " Z " not in status.read_text():
        assert time.monotonic() < deadline, "the worker lives on"
        time.sleep(0.1)


def test_a_folder_that_is_not_shared_is_one_error_before_training(tmp_path: Path):
    code = (
        "import sys, pathlib; from accelerate import Accelerator; from musetalk.training.shared_folder import *\n"
        "shared, own = map(pathlib.Path, sys.argv[1:])\n"
        "check_shared(shared, Accelerator(), patience=0.5)\n"
        "print('shared', flush=True)\n"
        "check_shared(own, Accelerator(), patience=0.5)"
    )
    for process in start_two(code, *([str(tmp_path / name) for name in ("shared", own)] for own in ("a", "b"))):
        output, errors = process.communicate(timeout=60)
        assert output == "shared\n", errors
        assert process.returncode != 0
        assert "1 of 2 processes do not see what the main one writes" in errors
    assert list(tmp_path.glob("*/.shared-*")) == []


def test_of_several_processes_one_prints_json():
    code = "import sys; from musetalk.cli import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["train", "--json", "--config", str(ROOT / "configs" / "tiny.yaml"), "--set", "steps=0"]
    first, second = start_two(code, arguments, arguments)
    (printed, _), (nothing, errors) = first.communicate(timeout=60), second.communicate(timeout=60)
    assert (first.returncode, second.returncode) == (2, 2)
    assert "steps is 0" in json.loads(printed)["error"]
    assert nothing == "" and "musetalk: steps is 0" in errors
