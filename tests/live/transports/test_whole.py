"""Everything for real, with small random networks: an upload becomes an avatar, a voice becomes a talking person."""

from __future__ import annotations

import asyncio
import io
import threading

import aiohttp
import numpy as np
import pytest
from aiohttp.test_utils import TestServer
from PIL import Image

from musetalk.live.assembly import build_service
from musetalk.live.server import create_app
from musetalk.live.timeline import AudioItem, SessionLimits, VideoItem
from musetalk.live.websocket import unpack


@pytest.fixture(scope="module")
def picture(portrait) -> bytes:
    file = io.BytesIO()
    Image.fromarray(portrait).save(file, "PNG")
    return file.getvalue()


def test_from_upload_to_speech(tiny_models, picture, tmp_path):
    async def run():
        service = build_service(tiny_models, tmp_path / "avatars", session_limits=SessionLimits(sessions=2))
        server = TestServer(create_app(service))
        await server.start_server()
        async with aiohttp.ClientSession(str(server.make_url("/"))) as http:
            async with http.post("avatars?name=eileen", data=picture) as answer:
                assert answer.status == 202, await answer.text()
                job = answer.headers["Location"]
            facts = {"state": "waiting"}
            while facts["state"] in ("waiting", "running"):
                await asyncio.sleep(0.2)
                async with http.get(job) as answer:
                    facts = await answer.json()
            assert facts["state"] == "done", facts
            async with http.get("avatars") as answer:
                (avatar,) = (await answer.json())["avatars"]
            assert avatar["name"] == "eileen" and avatar["warm"]
            async with http.post("sessions", json={"avatar": "nobody"}) as answer:
                assert answer.status == 404
            async with http.post("sessions", json={"avatar": "eileen"}) as answer:
                session = (await answer.json())["id"]
            async with http.delete("avatars/eileen") as answer:
                assert answer.status == 409

            voice = (9000 * np.sin(np.arange(16000) / 9)).astype("<i2").tobytes()
            events, heard, shown = [], b"", []
            async with http.ws_connect(f"sessions/{session}/socket") as socket:
                await socket.send_json({"type": "start", "rate": 16000, "video": "raw"})
                await socket.send_bytes(voice)
                await socket.send_json({"type": "end"})
                async for message in socket:
                    if message.type is aiohttp.WSMsgType.TEXT:
                        events.append(message.json())
                        continue
                    item = unpack(message.data)
                    if isinstance(item, AudioItem):
                        heard += item.pcm if item.rate == 16000 else b""
                    elif isinstance(item, VideoItem):
                        shown.append(item)
                    # The event may overtake the last of the sound.
                    ended = any(event.get("kind") == "ended" for event in events)
                    if ended and np.count_nonzero(np.frombuffer(heard, "<i2")) >= np.count_nonzero(
                        np.frombuffer(voice, "<i2")
                    ):
                        break
            # On a slow machine the session pauses for lips; all of the voice comes all the same, in order.
            said, sent = (np.frombuffer(pcm, "<i2") for pcm in (heard, voice))
            assert (said[said != 0] == sent[sent != 0]).all()
            assert shown[0].image.shape == (320, 384, 3)
            kinds = [event.get("kind", event["type"]) for event in events]
            assert kinds[0] == "ready" and "started" in kinds
            async with http.get("metrics") as answer:
                assert "musetalk_live_sessions 1.0" in await answer.text()
        await server.close()

    before = set(threading.enumerate())
    asyncio.run(asyncio.wait_for(run(), 240))
    left = [
        t.name for t in set(threading.enumerate()) - before if not t.name.startswith(("asyncio", "musetalk-encode"))
    ]
    assert not left
