"""Downloading from a small server on this machine that answers as the hub does."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from musetalk.errors import InputError, ModelFileError, OutputError
from musetalk.models import registry
from musetalk.models.download import STAGING, download
from musetalk.models.registry import FILES, files_of

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CONTENTS = {name: (name.encode() + b" ") * 5000 for name in ("weights.bin", "config.json", "extra.bin")}


@dataclass
class Hub:
    """What the server holds, and what it was asked."""

    files: dict[str, bytes]
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    authorised: bool = False
    cut_next_after: int | None = None
    endpoint: str = ""


@pytest.fixture
def hub() -> Iterator[Hub]:
    hub = Hub(dict(CONTENTS))

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.answer(with_body=False)

        def do_GET(self) -> None:
            self.answer(with_body=True)

        def answer(self, *, with_body: bool) -> None:
            ranges = self.headers.get("Range")
            hub.requests.append((self.command, self.path, ranges))
            hub.authorised |= "Authorization" in self.headers
            match = re.fullmatch(r"/owner/repo/resolve/[^/]+/(.+)", self.path)
            body = hub.files.get(match[1]) if match else None
            if body is None:
                self.send_response(404)
                self.send_header("X-Error-Code", "EntryNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            start = int(ranges.removeprefix("bytes=").split("-")[0]) if ranges else 0
            self.send_response(206 if start else 200)
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(body) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
            self.end_headers()
            if with_body:
                self.wfile.write(body[start : hub.cut_next_after])
                if hub.cut_next_after is not None:
                    hub.cut_next_after = None
                    self.close_connection = True

        def log_message(self, *arguments: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    yield hub
    server.shutdown()
    server.server_close()
    thread.join()


def remote(name: str, **changes: object) -> registry.RemoteFile:
    body = CONTENTS[name]
    file = registry.RemoteFile(
        name=name,
        versions=("v15",),
        needed=True,
        local_path=f"folder/{name}",
        licence="MIT",
        repo="owner/repo",
        path=name,
        revision=COMMIT,
        size=len(body),
        sha256=hashlib.sha256(body).hexdigest(),
    )
    return replace(file, **changes)


@pytest.fixture
def published(monkeypatch):
    """Replaces the list of published files."""

    def publish(*files: registry.RemoteFile) -> None:
        monkeypatch.setattr(registry, "FILES", files)

    publish(remote("config.json", size=None, sha256=None, notice="mind the terms"), remote("weights.bin"))
    return publish


def contents(folder) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_missing_files_arrive_at_their_places(hub, published, tmp_path):
    notices: list[str] = []
    steps: list[tuple[str, int, int]] = []
    fetched = download(
        tmp_path / "models",
        "v15",
        hub.endpoint,
        progress=lambda *step: steps.append(step),
        notice=notices.append,
    )
    folder = tmp_path / "models"
    assert fetched == [folder / "folder" / "config.json", folder / "folder" / "weights.bin"]
    assert contents(folder) == {f"folder/{name}": CONTENTS[name] for name in ("config.json", "weights.bin")}
    assert "Licence: MIT" in notices[0]
    assert "mind the terms" in notices[0]
    total = len(CONTENTS["config.json"]) + len(CONTENTS["weights.bin"])
    assert steps[-1] == ("download", total, total)
    assert all(0 <= done <= whole for _, done, whole in steps)
    assert not hub.authorised


def test_what_is_there_is_not_fetched_again(hub, published, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "weights.safetensors").write_bytes(b"converted")
    notices: list[str] = []
    assert download(tmp_path, endpoint=hub.endpoint, notice=notices.append) == [tmp_path / "folder" / "config.json"]
    assert "folder/weights.bin: already there" in notices
    (tmp_path / "folder" / "weights.bin").write_bytes(b"cut short")
    asked = len(hub.requests)
    assert not any("weights.bin" in path for _, path, _ in hub.requests)
    assert download(tmp_path, endpoint=hub.endpoint, notice=notices.append) == []
    assert len(hub.requests) == asked
    assert "already there, of 9 bytes instead of the published 60000" in notices[-1]


@pytest.mark.parametrize("wrong", [{"sha256": "0" * 64}, {"size": 3}])
def test_wrong_content_is_refused_and_leaves_nothing(hub, published, tmp_path, wrong):
    published(remote("weights.bin", **wrong))
    with pytest.raises(ModelFileError, match=r"weights\.bin: got .* instead of .*nothing was kept"):
        download(tmp_path, endpoint=hub.endpoint, notice=lambda line: None)
    assert contents(tmp_path) == {}


def test_a_broken_transfer_is_taken_up_where_it_stopped(hub, published, tmp_path):
    body = bytes(12 << 20)  # the client keeps what it has in pieces of 10 MiB
    hub.files["weights.bin"] = body
    hub.cut_next_after = 11 << 20
    published(remote("weights.bin", size=len(body), sha256=hashlib.sha256(body).hexdigest()))
    steps: list[tuple[str, int, int]] = []
    download(tmp_path, endpoint=hub.endpoint, progress=lambda *step: steps.append(step), notice=lambda line: None)
    assert contents(tmp_path) == {"folder/weights.bin": body}
    assert any(ranges == f"bytes={10 << 20}-" for _, _, ranges in hub.requests)
    assert steps[-1] == ("download", len(body), len(body))


def test_without_network_every_address_and_path_is_listed(published, tmp_path):
    with pytest.raises(ModelFileError) as caught:
        download(tmp_path, endpoint="http://127.0.0.1:9", notice=lambda line: None)
    for name in ("config.json", "weights.bin"):
        line = f"http://127.0.0.1:9/owner/repo/resolve/{COMMIT}/{name} -> {tmp_path / 'folder' / name}"
        assert line in str(caught.value)


def test_a_file_the_mirror_lacks_is_named(hub, published, tmp_path):
    published(remote("weights.bin", path="gone.bin"))
    with pytest.raises(ModelFileError, match=r"cannot fetch http.*gone\.bin"):
        download(tmp_path, endpoint=hub.endpoint, notice=lambda line: None)


def test_the_mirror_may_come_from_the_environment(hub, published, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint + "/")
    assert len(download(tmp_path, notice=lambda line: None)) == 2


def test_further_files_only_on_request(hub, published, tmp_path):
    published(remote("weights.bin"), remote("extra.bin", needed=False))
    assert len(download(tmp_path, endpoint=hub.endpoint, notice=lambda line: None)) == 1
    assert len(download(tmp_path, endpoint=hub.endpoint, include=["extra.bin"], notice=lambda line: None)) == 1


def test_a_single_file_brings_no_others(hub, published, tmp_path):
    published(remote("weights.bin"), remote("extra.bin", needed=False))
    (path,) = download(tmp_path, endpoint=hub.endpoint, only=["extra.bin"], notice=lambda line: None)
    assert path.name == "extra.bin" and len(hub.requests) > 0
    assert not any("weights.bin" in str(request) for request in hub.requests)


def test_a_file_outside_the_hub_is_left_to_the_user(published, tmp_path):
    published(remote("weights.bin", repo="", url="https://example.org/weights.bin"))
    with pytest.raises(ModelFileError, match=r"not on the Hugging Face hub.*\n.*https://example\.org/weights\.bin -> "):
        download(tmp_path, notice=lambda line: None)


def test_no_room_is_told_before_anything_is_fetched(hub, published, tmp_path):
    published(remote("weights.bin", size=10**18))
    with pytest.raises(OutputError, match="make room"):
        download(tmp_path, endpoint=hub.endpoint, notice=lambda line: None)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"version": "v2"}, "version is 'v2'"),
        ({"endpoint": "file:///etc"}, "endpoint is 'file:///etc'"),
        ({"include": ["face-id"]}, "no file called face-id"),
        ({"only": ["face-id"]}, "no file called face-id"),
    ],
)
def test_unknown_options_are_refused(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        download(tmp_path, **options)


def test_the_list_of_published_files_is_sound():
    assert len({file.name for file in FILES}) == len(FILES)
    for file in FILES:
        assert bool(file.repo and file.path) != bool(file.url), file.name
        assert file.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", file.sha256), file.name
        assert file.licence
        assert not file.local_path.startswith(("/", ".."))
    for version in ("v15", "v1"):
        needed = {file.local_path for file in files_of(version)}
        assert "sd-vae/diffusion_pytorch_model.bin" in needed
        assert not any("dwpose" in path or "s3fd" in path or "syncnet" in path for path in needed)
    assert {file.name for file in files_of("all")} == {file.name for v in ("v15", "v1") for file in files_of(v)}
    assert "research" in next(file.notice for file in FILES if file.name == "face-parser")
    assert "research" in next(file.notice for file in FILES if file.name == "dwpose")
    assert STAGING.startswith(".")  # so that a scan for weights never sees half a file
