"""Avatars made from uploads: the wrong kind, size and place refused, the rest made in a job that leaves nothing."""

import io
import os
import re
import shutil

import pytest
from PIL import Image

from musetalk.errors import InputError
from musetalk.live.uploads import UploadLimits


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
def test_uploads_of_the_wrong_size_or_kind_are_refused_at_once(stores, make_store, data, message):
    store = make_store(upload=UploadLimits(max_bytes=4096))
    with pytest.raises(InputError, match=message):
        store.create("new", stores.put(store, data))
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
def test_uploads_that_are_no_use_fail_in_their_job(stores, make_store, data, message):
    store = make_store(upload=UploadLimits(max_side=1000))
    job = stores.finished(store.create("new", stores.put(store, data)))
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
def test_footage_that_is_too_long_or_too_large_is_refused_before_it_is_decoded(
    stores, make_store, clip, limits, message
):
    store = make_store(upload=limits)
    job = stores.finished(store.create("new", stores.put(store, clip)))
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


def test_an_avatar_is_made_from_a_video_and_is_warm(stores, make_store, clip, generator):
    store = make_store()
    job = store.create("ann", stores.put(store, clip))
    with pytest.raises(InputError, match="already"):
        store.create("ann", stores.put(store, clip))
    assert stores.finished(job).state == "done", job.error
    assert store.job(job.id) is job and job.stage == "warm" and job.done == job.total == 12
    (info,) = store.list()
    assert (info.name, info.frames, info.fps, info.width, info.height) == ("ann", 12, "25", 384, 320)
    assert info.warm and info.users == 0 and not list((store.root / ".uploads").iterdir())
    drawn = generator.drawn
    live = store.open("ann")
    assert live.is_warm and len(live) == 12 and generator.drawn == drawn
    live.release()


def test_a_cancelled_job_leaves_nothing(stores, make_store, clip):
    store = make_store()
    job = store.create("ann", stores.put(store, clip))
    job.cancel()
    assert stores.finished(job).state == "cancelled"
    assert store.list() == [] and not list((store.root / ".uploads").iterdir())
    assert [path.name for path in store.root.iterdir()] == [".uploads"]
