"""The store: hostile names and uploads refused, avatars made, kept and given out, never taken from who uses them."""

import io
import os
import re
import shutil
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import save_file

from musetalk import FrameSource, prepare_avatar
from musetalk.avatar_file import save_avatar
from musetalk.errors import AvatarError, InputError, OutputError
from musetalk.live.cache import CacheFullError, InUseError
from musetalk.live.generator import ModelGenerator
from musetalk.live.live_avatar import LiveAvatar
from musetalk.live.store import AvatarStore, StoreLimits, UnknownAvatarError
from musetalk.live.uploads import UploadLimits
from musetalk.live.worker import Worker

HOSTILE_NAMES = [
    "",
    ".",
    "..",
    "../evil",
    "a/b",
    "a\\b",
    "/etc/passwd",
    "C:\\x",
    "C:x",
    "-a",
    "Ann",
    "a.b",
    "a b",
    "a\n",
]
HOSTILE_NAMES += ["a\x00", "ä", "a" * 65, "con", "lpt1", ".cache", ".uploads", None, 7, ["a"]]


class Counting(ModelGenerator):
    """Counts the frames that were drawn."""

    drawn = 0

    def close(self):
        pass

    def generate(self, jobs):
        self.drawn += len(jobs)
        return super().generate(jobs)


@pytest.fixture(scope="module")
def avatar(mesh_models, portrait_frames):
    """Four frames, the third without a face."""
    boxes = np.tile([139, 60, 232, 176], (4, 1))
    boxes[2] = 0
    return prepare_avatar(mesh_models, portrait_frames[:4], boxes=boxes)


@pytest.fixture(scope="module")
def saved(avatar, tmp_path_factory):
    """One saved avatar, to be copied into stores."""
    return save_avatar(avatar, tmp_path_factory.mktemp("saved") / "ann", copy_footage=True)


@pytest.fixture
def generator(mesh_models):
    return Counting(mesh_models)


@pytest.fixture
def worker(generator):
    with Worker(generator, 2) as worker:
        yield worker


@pytest.fixture
def make_store(tmp_path, mesh_models, worker, saved):
    stores = []

    def make(*names, **limits):
        root = tmp_path / "avatars"
        store = AvatarStore(root, mesh_models, worker, limits=StoreLimits(**limits))
        for name in names:
            shutil.copytree(saved, root / name)
        stores.append(store)
        return store

    yield make
    for store in stores:
        store.close()


def put(store, data):
    """An upload of these bytes, or of a file."""
    upload = store.upload_path()
    upload.write_bytes(data if isinstance(data, bytes) else data.read_bytes())
    return upload


def finished(job):
    assert job.wait(60), f"{job.kind} is still at {job.stage}"
    return job


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=repr)
def test_names_that_are_none_open_nothing(make_store, name):
    store = make_store("ann")
    for ask in (store.open, store.info, store.warm, store.delete, lambda n: store.create(n, put(store, b"x"))):
        with pytest.raises(InputError, match="cannot name an avatar"):
            ask(name)
    assert (store.root / "ann").is_dir() and not list((store.root / ".uploads").iterdir())


def test_names_nobody_has(make_store):
    store = make_store()
    (store.root / "empty").mkdir()
    for name in ("nobody", "empty"):
        with pytest.raises(UnknownAvatarError, match=name):
            store.open(name)
    assert store.list() == []


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_a_link_out_of_the_folder_is_not_followed(make_store, saved):
    store = make_store()
    (store.root / "linked").symlink_to(saved)
    for ask in (store.open, store.delete):
        with pytest.raises(UnknownAvatarError):
            ask("linked")
    assert saved.is_dir() and store.list() == []


def test_footage_outside_the_folder_is_not_opened(make_store, mesh_models, clip):
    store = make_store()
    with FrameSource.open(clip) as frames:
        boxes = np.tile([139, 60, 232, 176], (len(frames), 1))
        save_avatar(prepare_avatar(mesh_models, frames, boxes=boxes), store.root / "afar")
    with pytest.raises(AvatarError, match="not in its folder"):
        store.open("afar")


def jpeg(width, height):
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "JPEG")
    return file.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "0 bytes"),
        (b"x" * 5000, "5000 bytes"),
        (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "no MP4"),
        (b"ffconcat version 1.0\nfile /etc/passwd\n", "no MP4"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no MP4"),
        (b"GIF89a" + bytes(50), "no MP4"),
        (b"PK\x03\x04" + bytes(50), "no MP4"),
        (b"\x00\x00\x00\x18ftypheic" + bytes(50), "no MP4"),
    ],
)
def test_uploads_of_the_wrong_size_or_kind_are_refused_at_once(make_store, data, message):
    store = make_store(upload=UploadLimits(max_bytes=4096))
    with pytest.raises(InputError, match=message):
        store.create("new", put(store, data))
    assert not list((store.root / ".uploads").iterdir())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (jpeg(1200, 20), "1200x20"),
        (jpeg(64, 64), "face"),
        (jpeg(300, 300)[:400], "cannot be read|damaged|truncated"),
        (b"\x00\x00\x00\x18ftypisom" + bytes(200), "read as video"),
        (b"\x1a\x45\xdf\xa3" + bytes(200), "read as video|cut short"),
    ],
    ids=["wide", "faceless", "cut", "mp4", "mkv"],
)
def test_uploads_that_are_no_use_fail_in_their_job(make_store, data, message):
    store = make_store(upload=UploadLimits(max_side=1000))
    job = finished(store.create("new", put(store, data)))
    assert job.state == "failed" and re.search(message, job.error), job
    assert str(store.root) not in job.error
    assert store.list() == [] and not list((store.root / ".uploads").iterdir())


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (UploadLimits(max_seconds=0.3), "send at most 0.3 s"),
        (UploadLimits(max_seconds=1, max_fps=5), "over 5 pictures"),
        (UploadLimits(max_side=320), "384x320"),
        (UploadLimits(decoded_bytes=1 << 20), "12 pictures"),
    ],
)
def test_footage_that_is_too_long_or_too_large_is_refused_before_it_is_decoded(make_store, clip, limits, message):
    store = make_store(upload=limits)
    job = finished(store.create("new", put(store, clip)))
    assert job.state == "failed" and message in job.error


def test_an_upload_from_elsewhere_is_not_taken(make_store, clip, tmp_path):
    store = make_store()
    other = tmp_path / "mine.mp4"
    shutil.copy(clip, other)
    for path in (other, store.root / ".uploads" / ".." / ".." / "mine.mp4"):
        with pytest.raises(InputError, match="upload_path"):
            store.create("new", path)
    if os.name != "nt":
        link = store.upload_path()
        link.symlink_to(other)
        with pytest.raises(InputError, match="upload_path"):
            store.create("new", link)
    assert other.exists()


def test_an_avatar_is_made_from_a_video_and_is_warm(make_store, clip, generator):
    store = make_store()
    job = store.create("ann", put(store, clip))
    with pytest.raises(InputError, match="already"):
        store.create("ann", put(store, clip))
    assert finished(job).state == "done", job.error
    assert store.job(job.id) is job and job.stage == "warm" and job.done == job.total == 12
    (info,) = store.list()
    assert (info.name, info.frames, info.fps, info.width, info.height) == ("ann", 12, "25", 384, 320)
    assert info.warm and info.users == 0 and not list((store.root / ".uploads").iterdir())
    drawn = generator.drawn
    live = store.open("ann")
    assert live.is_warm and len(live) == 12 and generator.drawn == drawn
    live.release()


def test_a_cancelled_job_leaves_nothing(make_store, clip):
    store = make_store()
    job = store.create("ann", put(store, clip))
    job.cancel()
    assert finished(job).state == "cancelled"
    assert store.list() == [] and not list((store.root / ".uploads").iterdir())
    assert [path.name for path in store.root.iterdir()] == [".uploads"]


def test_switching_to_a_warm_avatar_takes_no_work(make_store, generator):
    store = make_store("ann", "bea")
    for name in ("ann", "bea"):
        assert finished(store.warm(name)).state == "done"
    drawn = generator.drawn
    # Both have the same footage, so the second found the mouths of the first on disk, and drew one to see they fit.
    assert drawn == 3 + 1
    begin = time.perf_counter()
    for name in ("ann", "bea") * 50:
        live = store.open(name)
        live.idle_frame(3)
        live.release()
    assert (time.perf_counter() - begin) / 100 < 0.05
    assert generator.drawn == drawn and not store.job("nothing")


def test_a_cold_avatar_warms_itself_and_a_restart_finds_its_mouths(make_store, generator):
    store = make_store("ann")
    live = store.open("ann")
    finished(store.warm("ann"))
    assert live.is_warm
    assert generator.drawn == 3
    again = make_store()
    finished(again.warm("ann"))
    fresh = again.open("ann")
    # One frame was drawn, to see that the networks are the same.
    assert generator.drawn == 4 and fresh is not live
    for source in range(4):
        np.testing.assert_array_equal(fresh.idle_frame(source), live.idle_frame(source))


def test_mouths_of_other_networks_are_drawn_again(make_store, generator):
    store = make_store("ann")
    finished(store.warm("ann"))
    (kept,) = (store.root / ".cache").iterdir()
    other = make_store()
    drawn = store.open("ann").closed
    save_file(
        {
            str(source): torch.full(patch.shape, 90, dtype=torch.uint8)
            for source, patch in enumerate(drawn)
            if patch is not None
        },
        kept,
    )
    assert finished(other.warm("ann")).state == "done" and generator.drawn == 3 + 1 + 3
    for patch, other_patch in zip(drawn, other.open("ann").closed, strict=True):
        assert (patch is None) == (other_patch is None)
        assert patch is None or np.abs(patch.astype(int) - other_patch).max() <= 1


@pytest.mark.parametrize("damage", [b"", b"x" * 100])
def test_damaged_mouths_are_drawn_again(make_store, generator, damage):
    store = make_store("ann")
    finished(store.warm("ann"))
    (kept,) = (store.root / ".cache").iterdir()
    kept.write_bytes(damage)
    again = make_store()
    assert finished(again.warm("ann")).state == "done" and generator.drawn == 6


def test_a_full_disk_costs_time_and_leaves_nothing(make_store, monkeypatch, avatar):
    def full(tensors, path, **options):
        path.write_bytes(b"x")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("musetalk.live.closed_mouths.save_file", full)
    monkeypatch.setattr("musetalk.avatar_file.save_file", full)
    store = make_store("ann")
    assert finished(store.warm("ann")).state == "done" and store.info("ann").warm
    with pytest.raises(OutputError, match="No space left"):
        store.add("bea", avatar)
    assert sorted(path.name for path in store.root.iterdir()) == [".cache", ".uploads", "ann"]
    assert not list((store.root / ".cache").iterdir())


def test_kept_mouths_are_not_shown_before_they_are_known_to_fit(make_store, generator, monkeypatch):
    store = make_store("ann")
    finished(store.warm("ann"))
    again, seen = make_store(), []
    fits = LiveAvatar.fits

    def looking(live, patches, *rest):
        seen.append((len(patches), live.missing()))
        return fits(live, patches, *rest)

    monkeypatch.setattr(LiveAvatar, "fits", looking)
    assert finished(again.warm("ann")).state == "done" and generator.drawn == 3 + 1
    assert seen == [(3, [0, 1, 3])]


def test_memory_is_bounded_and_what_is_in_use_is_not_evicted(make_store, avatar):
    size = LiveAvatar(avatar).size()
    store = make_store("ann", "bea", "cia", ram_bytes=int(2.5 * size))
    for name in ("ann", "bea", "cia"):
        finished(store.warm(name))
    assert store.evictions == 1 and store.memory_bytes <= 2.5 * size
    ann, bea = store.open("ann"), store.open("bea")
    before = ann.idle_frame(2).copy()
    with pytest.raises(CacheFullError, match="in use"):
        store.open("cia")
    assert finished(store.warm("cia")).state == "failed"
    np.testing.assert_array_equal(ann.idle_frame(2), before)
    assert store.open("ann") is ann
    for live in (ann, ann, bea):
        live.release()
    store.open("cia").release()
    with pytest.raises(KeyError):
        bea.release()


def test_an_avatar_larger_than_memory_is_refused_undecoded(make_store):
    store = make_store("ann", ram_bytes=1 << 20)
    with pytest.raises(CacheFullError, match="0 MiB are in use"):
        store.open("ann")


def test_an_avatar_in_use_is_not_deleted(make_store):
    store = make_store("ann")
    finished(store.warm("ann"))
    live = store.open("ann")
    with pytest.raises(InUseError):
        store.delete("ann")
    assert store.info("ann").users == 1
    live.release()
    store.delete("ann")
    assert store.list() == [] and not list((store.root / ".cache").iterdir())
    with pytest.raises(UnknownAvatarError):
        store.open("ann")


def test_mouths_that_another_avatar_shares_are_kept(make_store):
    store = make_store("ann", "bea")
    finished(store.warm("ann"))
    store.delete("ann")
    assert len(list((store.root / ".cache").iterdir())) == 1
    store.delete("bea")
    assert not list((store.root / ".cache").iterdir())


def test_of_two_who_delete_at_once_one_does(make_store):
    store, results = make_store("ann"), []
    ready = threading.Barrier(4)

    def delete():
        ready.wait(5)
        try:
            results.append(store.delete("ann"))
        except UnknownAvatarError as error:
            results.append(error)

    threads = [threading.Thread(target=delete) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4 and results.count(None) == 1 and list(store.root.iterdir()) == [store.root / ".uploads"]


def test_two_who_open_at_once_share_one_avatar(make_store):
    store = make_store("ann")
    opened = []
    threads = [threading.Thread(target=lambda: opened.append(store.open("ann"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 4 and len(set(map(id, opened))) == 1 and store.info("ann").users >= 4


def test_a_damaged_avatar_is_listed_with_the_reason(make_store):
    store = make_store("ann", "bea")
    (store.root / "ann" / "avatar.json").write_text("{")
    (store.root / "bea" / "avatar.safetensors").write_bytes(b"x")
    ann, bea = store.list()
    assert "damaged" in ann.error and str(store.root) not in ann.error and bea.error is None
    with pytest.raises(AvatarError, match="damaged"):
        store.open("bea")
    store.delete("ann")


def test_what_a_killed_server_left_is_swept(make_store):
    store = make_store()
    old, new = store.upload_path(), store.upload_path()
    part = store.root / ".ann.1234.part"
    part.mkdir()
    for path in (old, new):
        path.write_bytes(b"x")
    for path in (old, part):
        os.utime(path, (1, 1))
    make_store()
    assert new.exists() and not old.exists() and not part.exists()


def test_a_prepared_avatar_is_added_with_its_footage(make_store, avatar, portrait_frames):
    store = make_store(avatars=1)
    store.add("ann", avatar)
    live = store.open("ann")
    np.testing.assert_array_equal(live.footage(2), portrait_frames[2])
    for name, message in (("ann", "already"), ("bea", "its 1 avatars")):
        with pytest.raises(InputError, match=message):
            store.add(name, avatar)
