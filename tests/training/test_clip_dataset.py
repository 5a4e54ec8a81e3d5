"""A training set to samples: right, the same for a seed, shared out, and exact after a stop."""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from musetalk.errors import InputError
from musetalk.training.batches import training_batches, validation_batches
from musetalk.training.clip_file import Clip, read_pictures
from musetalk.training.config import TrainingConfig
from musetalk.training.data import ClipDataset, SampleOptions, collate
from musetalk.training.dataset_index import DatasetIndex
from musetalk.training.loading import load_batches
from musetalk.training.plan import Plan
from musetalk.training.settings import build
from musetalk.training.shards import read_shard, write_shard


@pytest.fixture(scope="module")
def clips() -> ModuleType:
    """clips.py beside this file."""
    spec = spec_from_file_location("training_clips", Path(__file__).with_name("clips.py"))
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def numbered(clips: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set whose frames can be told: five clips in two shards to train, one to validate."""
    folder = tmp_path_factory.mktemp("numbered") / "set"
    return clips.write_clip_set(folder, {"train": [[60, 40, 30], [740, 50]], "val": [[170]]})


def test_frames_are_found_by_their_number(clips: ModuleType, numbered: Path) -> None:
    clip = Clip.parse(dict(read_shard(numbered / "shards" / "train-000001.tar"))["train-1-0"])
    wanted = [0, 1, 24, 25, 26, 300, 301, 737, 739]
    assert [(number, clips.number_of(picture)) for number, picture in read_pictures(clip.video, wanted[::-1])] == [
        (number, number) for number in wanted
    ]
    with pytest.raises(InputError, match="frame 740"):
        list(read_pictures(clip.video, [740]))


@pytest.mark.parametrize("reference", ["informative", "random"])
def test_a_sample_shows_what_it_says(clips: ModuleType, numbered: Path, reference: str) -> None:
    options = SampleOptions(frames=2, reference=reference)  # type: ignore[arg-type]
    samples = list(ClipDataset(numbered, options=options, epochs=1, seed=1, samples_per_clip=5))
    keys = ("train-0-0", "train-0-1", "train-0-2", "train-1-0", "train-1-1")
    assert Counter(str(sample["key"]) for sample in samples) == dict.fromkeys(keys, 5)
    for sample in samples:
        targets, references = (
            [clips.number_of(((picture + 1) * 127.5).permute(1, 2, 0).numpy()) for picture in sample[name]]
            for name in ("targets", "references")
        )
        start = int(sample["start"])
        assert targets == [start, start + 1]
        assert all(abs(a - b) >= 5 for a, b in zip(targets, references, strict=True))
        assert sample["window_starts"].tolist() == [2 * start - 4, 2 * start - 2]
        for name, shape, kind in (
            ("targets", (2, 3, 256, 256), torch.float32),
            ("references", (2, 3, 256, 256), torch.float32),
            ("mouth", (2, 4), torch.int64),
            ("mel", (80, 3000), torch.float32),
            ("sync_mel", (80, 52), torch.float32),
        ):
            assert (sample[name].shape, sample[name].dtype) == (shape, kind)
        x0, y0, x1, y1 = sample["mouth"].T
        assert (x0 < x1).all() and (y0 < y1).all() and (x1 <= 256).all() and (y1 <= 256).all()


def test_margins_move_the_lower_edge_only(clips: ModuleType, numbered: Path) -> None:
    plain, moved = (
        next(iter(ClipDataset(numbered, options=SampleOptions(margin=margin, margin_mean=18, margin_spread=0), seed=4)))
        for margin in ("none", "normal")
    )
    assert plain["key"] == moved["key"] and plain["start"] == moved["start"]
    # 18 px more below make everything else smaller: the mouth moves up and keeps its left and right.
    assert (moved["mouth"][:, [0, 2]] == plain["mouth"][:, [0, 2]]).all()
    assert (moved["mouth"][:, 1] < plain["mouth"][:, 1]).all()


def test_what_is_heard_belongs_to_the_targets_also_late_in_a_clip(clips: ModuleType, tmp_path: Path) -> None:
    """Upstream takes the sync mel 4 s early from frame 700 on."""
    clicks = np.zeros(750 * 640, np.float32)
    clicks[320::3200] = 0.9  # in the middle of every fifth frame
    folder = clips.write_clip_set(tmp_path / "set", {"train": [[750]]}, sound=clicks)
    samples = list(ClipDataset(folder, options=SampleOptions(frames=16), epochs=1, samples_per_clip=24, seed=1))
    assert max(int(sample["start"]) for sample in samples) > 700
    for sample in samples:
        start = int(sample["start"])
        # Columns of 12.5 ms, the first at the start of a target's sound (or up to a column before).
        loud = sample["sync_mel"].mean(dim=0)
        expected = [
            80 * (frame + 0.5) / 25 - int(80 * start / 25) for frame in range(start, start + 16) if frame % 5 == 0
        ]
        for place in expected:
            assert loud[max(0, round(place) - 1) : round(place) + 2].max() > loud.median() + 0.5
        quiet = [
            c
            for c in range(52)
            if all(abs(c - place) > 4 for place in [*expected, *(expected[0] + np.arange(-2, 5) * 16)])
        ]
        assert loud[quiet].max() < loud.median() + 0.5
        # The middle of a target's window of ten steps of 20 ms, two mel columns each, is where it is.
        columns = sample["mel"].mean(dim=0)
        for offset, first in enumerate(sample["window_starts"].tolist()):
            assert first + 4 == 2 * (start + offset)
            near = columns[2 * (first + 4) : 2 * (first + 4) + 4].max()
            assert (near > columns.min() + 0.1) == ((start + offset) % 5 == 0)


def same(one: Sequence[dict], other: Sequence[dict]) -> bool:
    return len(one) == len(other) and all(
        a.keys() == b.keys()
        and all(torch.equal(a[k], b[k]) if isinstance(a[k], torch.Tensor) else a[k] == b[k] for k in a)
        for a, b in zip(one, other, strict=True)
    )


def test_the_stream_goes_on_exactly_where_it_was_left(numbered: Path) -> None:
    def samples(**more) -> list[dict]:
        options = SampleOptions(frames=2, margin="uniform")
        return list(ClipDataset(numbered, options=options, epochs=2, samples_per_clip=2, mix=2, seed=9, **more))

    whole = samples()
    assert len(whole) == 20 and same(whole, samples())
    assert not same(whole[:10], whole[10:])
    for consumed in (1, 9, 10, 14):
        assert same(samples(consumed=consumed), whole[consumed:])
    assert same(samples(epoch=1)[:10], whole[10:])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_goes_on_exactly_where_it_was_left(numbered: Path, workers: int) -> None:
    def batches(consumed: int, count: int) -> list[dict]:
        dataset = ClipDataset(numbered, samples_per_clip=2, mix=2, batch_size=3, consumed=consumed)
        loader = iter(DataLoader(dataset, batch_size=3, num_workers=workers, collate_fn=collate))
        return [next(loader) for _ in range(count)]

    whole = batches(0, 7)
    assert whole[0]["targets"].shape == (3, 1, 3, 256, 256) and len(whole[0]["key"]) == 3
    assert same(batches(9, 4), whole[3:])


def test_two_ranks_of_two_workers_share_an_epoch(numbered: Path) -> None:
    seen: list[Counter[tuple[str, int]]] = []
    for rank in range(2):
        dataset = ClipDataset(numbered, epochs=1, rank=rank, world_size=2, samples_per_clip=4, seed=2)
        loader = DataLoader(dataset, batch_size=None, num_workers=2)
        seen.append(Counter((sample["key"], int(sample["start"])) for sample in loader))
    assert [sum(part.values()) for part in seen] == [10, 10]
    alone = ClipDataset(numbered, epochs=1, samples_per_clip=4, seed=2)
    assert seen[0] + seen[1] == Counter((sample["key"], int(sample["start"])) for sample in alone)
    assert {key for key, _ in seen[0] + seen[1]} == {clip.key for shard in alone._plan.shards for clip in shard.clips}


@pytest.mark.parametrize("readers", [1, 2, 3, 4, 7, 10])
def test_readers_part_the_draws_among_them(numbered: Path, readers: int) -> None:
    shards = DatasetIndex.load(numbered).train
    plans = [Plan(shards, 5, 2, 3, reader, readers) for reader in range(readers)]
    drawn = [[visit.draws[i] for visit in plan.visits(epochs=1) for i in visit.order] for plan in plans]
    assert max(map(len, drawn)) - min(map(len, drawn)) <= 1
    flat = [(draw.clip.key, draw.number) for part in drawn for draw in part]
    assert len(set(flat)) == len(flat) == 10
    with pytest.raises(InputError, match=r"lower data\.workers, raise data\.samples_per_clip"):
        next(Plan(shards, 5, 2, 3, 0, 11).visits())


def test_clips_too_short_or_small_are_left_out_and_told_and_none_left_is_an_error(
    numbered: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for frames, said in (
        (1, None),
        (
            5,
            "3 of 5 train clips of SET are used, 34 of 37 s; a clip needs 50 frames (2 s, ten times data.frames=5)",
        ),
        (
            16,
            "1 of 5 train clips of SET are used, 30 of 37 s; a clip needs 160 frames (6.4 s, ten times data.frames=16)",
        ),
    ):
        caplog.clear()
        samples = list(ClipDataset(numbered, options=SampleOptions(frames=frames), epochs=1, samples_per_clip=1))
        assert len(samples) == {1: 5, 5: 3, 16: 1}[frames]
        told = [record.message.replace(str(numbered), "SET") for record in caplog.records]
        assert [message.partition(" and a face")[0] for message in told] == ([said] if said else [])
    ClipDataset(numbered, options=SampleOptions(frames=16), rank=1, world_size=2)
    assert len(caplog.records) == 1, "each rank says so"
    for frames, face in ((1, 101), (75, 0)):
        with pytest.raises(InputError, match=r"none of the 5 train clips of .* the longest has 740 frames, .* 100 px"):
            ClipDataset(numbered, options=SampleOptions(frames=frames), min_face=face)
    with pytest.raises(InputError, match="train-data"):
        ClipDataset(numbered / "shards")


@pytest.mark.parametrize("damage", ["video", "landmarks", "arrays", "texts", "sound", "missing"])
def test_a_damaged_clip_is_named_or_passed_over(numbered: Path, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "set"
    shutil.copytree(numbered, folder)
    path = folder / "shards" / "train-000000.tar"
    samples = dict(read_shard(path))
    bad = samples["train-0-1"]
    if damage == "video":
        bad["mp4"] = bad["mp4"][: len(bad["mp4"]) // 3]
    elif damage == "landmarks":
        bad["npz"] = samples["train-0-0"]["npz"]
    elif damage == "arrays":
        middle = len(bad["npz"]) // 2
        bad["npz"] = bad["npz"][:middle] + bytes(50) + bad["npz"][middle + 50 :]
    elif damage == "texts":
        with np.load(io.BytesIO(bad["npz"])) as arrays:
            texts = {**arrays, "landmarks": np.full((40, 68, 2), "here")}
        file = io.BytesIO()
        np.savez(file, **texts)
        bad["npz"] = file.getvalue()
    elif damage == "sound":
        bad["wav"] = bad["wav"][:1000]
    else:
        del samples["train-0-1"]
    write_shard(path, samples.items())
    with pytest.raises(InputError, match=r"train-0-1 of shard train-000000\.tar"):
        list(ClipDataset(folder, epochs=1))
    whole = list(ClipDataset(folder, epochs=2, bad_clips=1, samples_per_clip=2))
    assert len(whole) == 20 and "train-0-1" not in {sample["key"] for sample in whole}
    assert same(list(ClipDataset(folder, epochs=2, bad_clips=1, samples_per_clip=2, consumed=4)), whole[4:])


def test_a_clip_whose_bytes_were_hit_is_an_input_error(clips: ModuleType) -> None:
    members = clips.clip_members("train-0-0", 30)
    rng = np.random.default_rng(0)
    for name in ("npz", "wav", "json"):
        for _ in range(300):
            hit = np.frombuffer(members[name], np.uint8).copy()
            # Near the ends, where the tables of a zip and the headers lie.
            places = rng.choice((*range(100), *range(-500, 0)), rng.integers(1, 9)) % len(hit)
            hit[places] = rng.integers(0, 256, len(places))
            with contextlib.suppress(InputError):
                Clip.parse({**members, name: hit.tobytes()})


def test_two_samples_of_one_key_are_an_error(clips: ModuleType, tmp_path: Path) -> None:
    members = clips.clip_members("train-0-0", 30)
    write_shard(tmp_path / "train-000000.tar", [("a", members), ("a", members)])
    with pytest.raises(InputError, match=r"train-000000\.tar is damaged"):
        list(read_shard(tmp_path / "train-000000.tar"))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("drop_last", [False, True])
def test_an_error_in_a_worker_is_the_error(numbered: Path, tmp_path: Path, workers: int, drop_last: bool) -> None:
    folder = tmp_path / "set"
    shutil.copytree(numbered, folder)
    (folder / "shards" / "train-000001.tar").write_bytes(b"")
    dataset = ClipDataset(folder, batch_size=3, epochs=1)
    with pytest.raises(InputError) as caught:
        list(load_batches(dataset, 3, collate, workers=workers, drop_last=drop_last))
    said = str(caught.value)
    assert said.startswith("clip train-1-") and said.endswith("raise data.bad_clips above 0 to pass over it")
    assert "\n" not in said and "Traceback" not in said


def test_batches_of_a_loader_are_those_of_the_data_set(numbered: Path) -> None:
    def keys(**more) -> list[list[str]]:
        dataset = ClipDataset(numbered, epochs=1, samples_per_clip=1)
        return [batch["key"] for batch in load_batches(dataset, 2, collate, **more)]

    assert [len(batch) for batch in keys()] == [2, 2, 1] and [len(batch) for batch in keys(drop_last=True)] == [2, 2]


def test_the_configuration_reaches_the_samples(numbered: Path, tmp_path: Path) -> None:
    def config(**data) -> TrainingConfig:
        return build(
            TrainingConfig,
            {
                "output": str(tmp_path / "run"),
                "steps": 1,
                "data": {"path": str(numbered), "workers": 0, "batch_size": 10, **data},
                "validation": {"batches": 1, "batch_size": 1},
            },
        )

    def first(**data) -> dict:
        return next(training_batches(config(**data), 0, 1, 0))

    plain, flipped = first(), first(augmentation={"flip": 1})
    assert plain["key"] == flipped["key"]
    assert torch.equal(flipped["targets"], plain["targets"].flip(-1))
    assert max(Counter(first(samples_per_clip=1)["key"]).values()) == 2  # ten of five clips: two epochs
    held_out = [validation_batches(config(augmentation={"flip": share}))[0]["targets"] for share in (0, 1)]
    assert torch.equal(*held_out), "validation is augmented"
    with pytest.raises(InputError, match=r"data\.augmentation: flip is 2"):
        config(augmentation={"flip": 2})
    with pytest.raises(InputError, match=r"data: bad_clips is -1"):
        config(bad_clips=-1)


def test_a_shard_cut_short_is_an_error(numbered: Path, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    shutil.copytree(numbered, folder)
    path = folder / "shards" / "train-000001.tar"
    path.write_bytes(path.read_bytes()[:40_000])
    with pytest.raises(InputError, match=r"train-000001\.tar"):
        list(ClipDataset(folder, epochs=1))
    path.unlink()
    with pytest.raises(InputError, match="lacks train-000001"):
        ClipDataset(folder)
