"""The store: hostile names refused, avatars listed, opened and deleted, never taken from who uses them."""

import os
import threading
from dataclasses import replace

import numpy as np
import pytest

from musetalk import FrameSource, prepare_avatar
from musetalk.avatar_file import save_avatar
from musetalk.errors import AvatarError, InputError
from musetalk.live.cache import CacheFullError, InUseError
from musetalk.live.live_avatar import LiveAvatar
from musetalk.live.store import AvatarStore, UnknownAvatarError
from musetalk.live.worker import Worker
from musetalk.profile import Profile

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


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=repr)
def test_names_that_are_none_open_nothing(stores, make_store, name):
    store = make_store("ann")
    for ask in (store.open, store.info, store.warm, store.delete, lambda n: store.create(n, stores.put(store, b"x"))):
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
def test_a_link_out_of_the_folder_is_not_followed(make_store, saved_avatar):
    store = make_store()
    (store.root / "linked").symlink_to(saved_avatar)
    for ask in (store.open, store.delete):
        with pytest.raises(UnknownAvatarError):
            ask("linked")
    assert saved_avatar.is_dir() and store.list() == []


def test_footage_outside_the_folder_is_not_opened(make_store, mesh_models, clip):
    store = make_store()
    with FrameSource.open(clip) as frames:
        boxes = np.tile([139, 60, 232, 176], (len(frames), 1))
        save_avatar(prepare_avatar(mesh_models, frames, boxes=boxes), store.root / "afar")
    with pytest.raises(AvatarError, match="not in its folder"):
        store.open("afar")


def test_memory_is_bounded_and_what_is_in_use_is_not_evicted(stores, make_store, small_avatar):
    size = LiveAvatar(small_avatar).size()
    store = make_store("ann", "bea", "cia", ram_bytes=int(2.5 * size))
    for name in ("ann", "bea", "cia"):
        stores.finished(store.warm(name))
    assert store.evictions == 1 and store.memory_bytes <= 2.5 * size
    ann, bea = store.open("ann"), store.open("bea")
    before = ann.idle_frame(2).copy()
    with pytest.raises(CacheFullError, match="in use"):
        store.open("cia")
    assert stores.finished(store.warm("cia")).state == "failed"
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


def test_an_avatar_in_use_is_not_deleted(stores, make_store):
    store = make_store("ann")
    stores.finished(store.warm("ann"))
    live = store.open("ann")
    with pytest.raises(InUseError):
        store.delete("ann")
    assert store.info("ann").users == 1
    live.release()
    store.delete("ann")
    assert store.list() == [] and not list((store.root / ".cache").iterdir())
    with pytest.raises(UnknownAvatarError):
        store.open("ann")


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


def test_an_avatar_is_opened_at_once_where_the_models_are_away_and_checked_when_they_come(
    stores, tmp_path, mesh_models, small_avatar, generator
):
    here = threading.Event()

    def bring():
        assert here.wait(60)
        return mesh_models

    with Worker(generator, 1) as worker:
        store = AvatarStore(tmp_path / "avatars", bring, worker, at_hand=here.is_set)
        store.add("bea", replace(small_avatar, latents=small_avatar.latents + 1))
        live = store.open("bea")
        assert len(live) == len(small_avatar.frames) and not live.is_warm
        here.set()
        job = stores.finished(store.warm("bea"))
        assert job.state == "failed" and "does not fit this server" in job.error
        live.release()
        store.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda avatar: {"profile": Profile.for_version("v1")}, r"prepared for MuseTalk v1.*prepare it again"),
        (lambda avatar: {"latents": avatar.latents + 1}, r"not those of this VAE.*prepare it again"),
    ],
    ids=["version", "vae"],
)
def test_an_avatar_of_other_models_is_not_shown(stores, make_store, small_avatar, generator, change, message):
    store = make_store()
    store.add("bea", replace(small_avatar, **change(small_avatar)))
    with pytest.raises(AvatarError, match=f"the avatar bea does not fit this server: .*{message}"):
        store.open("bea")
    job = stores.finished(store.warm("bea"))
    assert job.state == "failed" and "does not fit this server" in job.error
    assert generator.drawn == 0 and store.memory_bytes == 0
    store.delete("bea")


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


def test_a_prepared_avatar_is_added_with_its_footage(make_store, small_avatar, portrait_frames):
    store = make_store(avatars=1)
    store.add("ann", small_avatar)
    live = store.open("ann")
    np.testing.assert_array_equal(live.footage(2), portrait_frames[2])
    for name, message in (("ann", "already"), ("bea", "its 1 avatars")):
        with pytest.raises(InputError, match=message):
            store.add(name, small_avatar)
