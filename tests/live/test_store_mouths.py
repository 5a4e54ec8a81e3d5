"""Closed mouths: drawn once, kept on disk, shown only where they are those of these networks."""

import time

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from musetalk.errors import OutputError
from musetalk.live.live_avatar import LiveAvatar


def test_switching_to_a_warm_avatar_takes_no_work(stores, make_store, generator):
    store = make_store("ann", "bea")
    for name in ("ann", "bea"):
        assert stores.finished(store.warm(name)).state == "done"
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


def test_a_cold_avatar_warms_itself_and_a_restart_finds_its_mouths(stores, make_store, generator):
    store = make_store("ann")
    live = store.open("ann")
    stores.finished(store.warm("ann"))
    assert live.is_warm
    assert generator.drawn == 3
    again = make_store()
    stores.finished(again.warm("ann"))
    fresh = again.open("ann")
    # One frame was drawn, to see that the networks are the same.
    assert generator.drawn == 4 and fresh is not live
    for source in range(4):
        np.testing.assert_array_equal(fresh.idle_frame(source), live.idle_frame(source))


def test_mouths_of_other_networks_are_drawn_again(stores, make_store, generator):
    store = make_store("ann")
    stores.finished(store.warm("ann"))
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
    assert stores.finished(other.warm("ann")).state == "done" and generator.drawn == 3 + 1 + 3
    for patch, other_patch in zip(drawn, other.open("ann").closed, strict=True):
        assert (patch is None) == (other_patch is None)
        assert patch is None or np.abs(patch.astype(int) - other_patch).max() <= 1


@pytest.mark.parametrize("damage", [b"", b"x" * 100])
def test_damaged_mouths_are_drawn_again(stores, make_store, generator, damage):
    store = make_store("ann")
    stores.finished(store.warm("ann"))
    (kept,) = (store.root / ".cache").iterdir()
    kept.write_bytes(damage)
    again = make_store()
    assert stores.finished(again.warm("ann")).state == "done" and generator.drawn == 6


def test_a_full_disk_costs_time_and_leaves_nothing(stores, make_store, monkeypatch, small_avatar):
    def full(tensors, path, **options):
        path.write_bytes(b"x")
        raise SafetensorError("I/O error: No space left on device (os error 28)")

    monkeypatch.setattr("musetalk.live.closed_mouths.save_file", full)
    monkeypatch.setattr("musetalk.avatar_file.save_file", full)
    store = make_store("ann")
    assert stores.finished(store.warm("ann")).state == "done" and store.info("ann").warm
    with pytest.raises(OutputError, match="No space left"):
        store.add("bea", small_avatar)
    assert sorted(path.name for path in store.root.iterdir()) == [".cache", ".uploads", "ann"]
    assert not list((store.root / ".cache").iterdir())


def test_kept_mouths_are_not_shown_before_they_are_known_to_fit(stores, make_store, generator, monkeypatch):
    store = make_store("ann")
    stores.finished(store.warm("ann"))
    again, seen = make_store(), []
    fits = LiveAvatar.fits

    def looking(live, patches, *rest):
        seen.append((len(patches), live.missing()))
        return fits(live, patches, *rest)

    monkeypatch.setattr(LiveAvatar, "fits", looking)
    assert stores.finished(again.warm("ann")).state == "done" and generator.drawn == 3 + 1
    assert seen == [(3, [0, 1, 3])]


def test_mouths_that_another_avatar_shares_are_kept(stores, make_store):
    store = make_store("ann", "bea")
    stores.finished(store.warm("ann"))
    store.delete("ann")
    assert len(list((store.root / ".cache").iterdir())) == 1
    store.delete("bea")
    assert not list((store.root / ".cache").iterdir())
