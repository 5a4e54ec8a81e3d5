"""Real aiortc peers over loopback: pictures, sound, the data channel, and peers that misbehave."""

from __future__ import annotations

import asyncio
import time
from functools import partial
from itertools import count

import numpy as np
import pytest

from musetalk.live.encoding import SoundAt48k, VideoEncoder, fit
from musetalk.live.errors import TooMuchAudioError
from musetalk.live.security import RefusedError
from musetalk.live.service import ServerLimits
from musetalk.live.timeline import FPS, AudioItem, VideoItem
from musetalk.live.webrtc import MediaSettings, filter_candidates

from .watcher import Watcher, until


@pytest.mark.parametrize("codec", ["H264", "VP8"])
def test_pictures_sound_and_events(live, codec):
    async def run():
        async with live() as server:
            session = await server.session()
            watcher = Watcher(codec=codec)
            answer = await watcher.join(server, session)
            video = answer[answer.index("m=video") :]
            first = video.split()[3]
            assert f"a=rtpmap:{first} {codec}/90000" in video
            await until(lambda: len(watcher.frames) > 3, 15)
            tone = (8000 * np.sin(2 * np.pi * 500 * np.arange(24000) / 24000)).astype("<i2").tobytes()
            async with server.http.post(server.url(f"/sessions/{session}/audio?rate=24000"), data=tone) as pushed:
                assert pushed.status == 200
            # However slow the machine, and what it loses: until the tone was heard and is over, and pictures have come.
            await until(lambda: any(abs(sound).max() > 1000 for sound in watcher.sounds), 15)
            await until(lambda: all(abs(sound).max() < 1000 for sound in watcher.sounds[-5:]), 15)
            await until(lambda: len(watcher.frames) > 20 and len(watcher.events) > 2, 15)
            watcher.channel.send('{"type": "clear"}')
            watcher.channel.send("{")
            await until(lambda: any(event["type"] == "error" for event in watcher.events))

            # A busy machine may lose pictures; those that come carry their own time, exactly.
            times, light = np.transpose(watcher.frames)
            steps = np.diff(times) / 0.04
            assert len(times) > 20 and (steps > 0.5).all() and np.allclose(steps, np.rint(steps), atol=0.03)
            assert np.corrcoef(times, light)[0, 1] > 0.99
            sound = np.concatenate(watcher.sounds).astype(float)
            packets = np.diff(watcher.sound_times) / 0.02
            assert (packets > 0.5).all() and np.allclose(packets, np.rint(packets), atol=0.05)
            spectrum = np.abs(np.fft.rfft(sound))
            assert abs(np.fft.rfftfreq(len(sound), 1 / 48000)[spectrum.argmax()] - 500) < 3
            kinds = [event["type"] for event in watcher.events]
            assert kinds[0] == "ready" and "cleared" in kinds and "speaking" in kinds
            await watcher.leave()
            await until(lambda: server.service.viewers == 0, 15)
            assert server.service.sessions.get(session).viewers == 0

    asyncio.run(asyncio.wait_for(run(), 60))


def test_delete_lets_a_viewer_go_and_patch_is_refused(live):
    async def run():
        async with live() as server:
            session = await server.session()
            watcher = Watcher()
            await watcher.join(server, session)
            async with server.http.patch(server.url(watcher.location)) as answer:
                assert answer.status == 405
            async with server.http.delete(server.url(watcher.location)) as answer:
                assert answer.status == 204
            async with server.http.delete(server.url(watcher.location)) as answer:
                assert answer.status == 404
            assert server.service.viewers == 0
            await watcher.leave()

    asyncio.run(asyncio.wait_for(run(), 20))


def test_a_microphone_outlives_refusals_and_ends_its_utterance(live):
    async def run():
        async with live() as server:
            session = server.service.session(await server.session())
            calls = []

            async def refused_at_first(pcm, rate):
                calls.append(pcm)
                if len(calls) <= 5:
                    raise TooMuchAudioError("more than is kept ahead")
                return 0

            session.push_pcm = refused_at_first
            watcher = Watcher(microphone=True)
            await watcher.join(server, session.id, "?microphone=avatar")
            await until(lambda: len(calls) > 10, 15)
            assert sum(event.get("code") == "too_much_audio" for event in watcher.events) <= 1
            async with server.http.delete(server.url(watcher.location)) as answer:
                assert answer.status == 204
            assert session.ended == 1
            await watcher.leave()

    asyncio.run(asyncio.wait_for(run(), 60))


def test_a_viewer_that_never_connects_is_let_go(live):
    async def run():
        async with live(media=MediaSettings(connect_s=0.3)) as server:
            session = await server.session()
            watcher = Watcher()
            url = server.url(f"/sessions/{session}/whep")
            headers = {"Content-Type": "application/sdp"}
            async with server.http.post(url, data=await watcher.offer(), headers=headers) as answer:
                assert answer.status == 201
            assert server.service.viewers == 1
            await until(lambda: server.service.viewers == 0)
            await watcher.leave()

    asyncio.run(asyncio.wait_for(run(), 20))


def test_a_viewer_that_vanishes(live, monkeypatch):
    """Its sockets go away without a word; consent checks find out."""

    async def run():
        monkeypatch.setattr("aioice.ice.CONSENT_INTERVAL", 0.2)
        monkeypatch.setattr("aioice.ice.CONSENT_FAILURES", 2)
        async with live() as server:
            session = await server.session()
            watcher, other = Watcher(), Watcher()
            await watcher.join(server, session)
            await other.join(server, session)
            await until(lambda: watcher.frames and other.frames, 20)
            for transceiver in watcher.connection.getTransceivers():
                for protocol in transceiver.sender.transport.transport._connection._protocols:
                    protocol.transport.abort()
            await until(lambda: server.service.viewers == 1, 20)
            seen = len(other.frames)
            await until(lambda: len(other.frames) > seen + 5)
            await asyncio.gather(watcher.leave(), other.leave())

    asyncio.run(asyncio.wait_for(run(), 60))


def test_a_slow_encoder_keeps_lips_and_voice_together(live, monkeypatch):
    """What the sender reports say of pictures and sound: the same time stamp left at the same time."""

    async def run():
        encode = VideoEncoder.encode

        def slow(self, item, **options):
            time.sleep(0.025)
            return encode(self, item, **options)

        monkeypatch.setattr(VideoEncoder, "encode", slow)
        # With offsets of next to nothing, a sender's RTP time stamps are those of the session, at its kind's clock.
        monkeypatch.setattr("aiortc.rtcrtpsender.random32", partial(next, count(1)))
        first = []
        convert = SoundAt48k.convert

        def noted(self, item):
            frame = convert(self, item)
            first.append(frame.pts)
            return frame

        monkeypatch.setattr(SoundAt48k, "convert", noted)
        async with live() as server:
            session = await server.session()
            watcher = Watcher()
            await watcher.join(server, session)
            await until(lambda: len(watcher.frames) > 5, 20)
            (peer,) = server.service._company[session].peers.values()
            left = {"audio": [], "video": []}
            for _ in range(30):
                for sender in peer._connection.getSenders():
                    moment = sender._RTCRtpSender__ntp_timestamp / 2**32
                    stamp = sender._RTCRtpSender__rtp_timestamp
                    # Opus counts from the first sound that was sent.
                    seconds = stamp / 90000 if sender.kind == "video" else (stamp + first[0]) / 48000
                    left[sender.kind].append(moment - seconds)
                await asyncio.sleep(0.02)
            # The least of each: on a busy machine, some that had time enough are late all the same.
            apart = min(left["video"]) - min(left["audio"])
            assert abs(apart) < 0.015, f"pictures are {1000 * apart:.0f} ms after their sound"
            await watcher.leave()

    asyncio.run(asyncio.wait_for(run(), 60))


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", "application/sdp", 400),
        (b"v=0\r\n", "application/sdp", 400),
        (b"\xff" * 100, "application/sdp", 400),
        (b"v=0\r\n" + b"m=audio 9 RTP/AVP 0\r\n" * 10, "application/sdp", 400),
        (b"x" * 70_000, "application/sdp", 413),
        (b"v=0\r\n", "application/json", 415),
    ],
    ids=range(6),
)
def test_offers_that_make_no_sense(live, body, kind, status):
    async def run():
        async with live() as server:
            url = server.url(f"/sessions/{await server.session()}/whep")
            async with server.http.post(url, data=body, headers={"Content-Type": kind}) as answer:
                assert answer.status == status, await answer.text()
            assert server.service.viewers == 0

    asyncio.run(asyncio.wait_for(run(), 20))


def test_microphone_makes_the_avatar_speak(live):
    async def run():
        async with live() as server:
            session = await server.session()
            watcher = Watcher(microphone=True)
            await watcher.join(server, session, "?microphone=avatar")
            pushed = server.service.sessions.get(session).pushed
            await until(lambda: len(pushed) > 5)
            assert all(len(pcm) == 1920 for pcm in pushed)
            second = Watcher(microphone=True)
            url = server.url(f"/sessions/{session}/whep?microphone=avatar")
            headers = {"Content-Type": "application/sdp"}
            async with server.http.post(url, data=await second.offer(), headers=headers) as answer:
                assert answer.status == 409 and "microphone_taken" in await answer.text()
            await asyncio.gather(second.leave(), watcher.leave())
            refused = Watcher(microphone=True)
            url = server.url(f"/sessions/{session}/whep?microphone=agent")
            headers = {"Content-Type": "application/sdp"}
            async with server.http.post(url, data=await refused.offer(), headers=headers) as answer:
                assert answer.status == 409
            await refused.leave()

    asyncio.run(asyncio.wait_for(run(), 20))


def test_viewers_are_limited_and_places_come_back(live):
    async def run():
        async with live(limits=ServerLimits(viewers=2)) as server:
            session = await server.session()
            watchers = [Watcher() for _ in range(2)]
            for watcher in watchers:
                await watcher.join(server, session)
            third = Watcher()
            url = server.url(f"/sessions/{session}/whep")
            headers = {"Content-Type": "application/sdp"}
            async with server.http.post(url, data=await third.offer(), headers=headers) as answer:
                assert answer.status == 503
            async with server.http.delete(server.url(watchers[0].location)):
                pass
            await third.join(server, session)
            await asyncio.gather(*(watcher.leave() for watcher in [*watchers, third]))

    asyncio.run(asyncio.wait_for(run(), 20))


def test_candidates_no_viewer_has():
    lines = [
        "a=candidate:1 1 udp 2 192.168.0.4 50000 typ host",
        "a=candidate:2 1 udp 2 0ae5.local 50000 typ host",
        "a=candidate:3 1 udp 2 2001:db8::1 50000 typ host",
    ]
    refused = [
        "a=candidate:4 1 udp 2 169.254.169.254 50000 typ host",
        "a=candidate:5 1 udp 2 224.0.0.1 50000 typ host",
        "a=candidate:6 1 udp 2 0.0.0.0 50000 typ host",
        "a=candidate:7 1 udp 2 internal.example 50000 typ host",
        "a=candidate:8 1 udp 2 192.168.0.4 53 typ host",
        "a=candidate:9 1 udp 2",
        "a=candidate:10 1 udp 2 192.168.0.4 port typ host",
    ]
    assert filter_candidates("\n".join(["v=0", *lines, *refused])) == "\r\n".join(["v=0", *lines]) + "\r\n"
    with pytest.raises(RefusedError):
        filter_candidates("\n".join(lines * 30))


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 24000, 44100, 48000, 96000])
def test_sound_at_48k_has_no_seams(rate):
    """Packet by packet is what one packet after another would be, and a tone stays that tone."""
    size = rate // 50
    tone = np.round(8000 * np.sin(2 * np.pi * 440 * np.arange(rate) / rate)).astype("<i2")
    converter = SoundAt48k()
    frames = [
        converter.convert(AudioItem(i * size, tone[i * size : (i + 1) * size].tobytes(), rate)) for i in range(50)
    ]
    assert [frame.pts for frame in frames] == [960 * i for i in range(50)]
    sound = np.concatenate([frame.to_ndarray()[0] for frame in frames]).astype(float)
    delay = 0 if rate == 48000 else 10 * max(1, 48000 / rate)
    expected = 8000 * np.sin(2 * np.pi * 440 * (np.arange(48000) - delay) / 48000)
    assert np.abs(sound - expected)[1000:].max() < 20


def test_encoder_follows_size_and_gives_keyframes_when_asked():
    encoder = VideoEncoder("H264", FPS)
    pictures = [np.full((63, 65, 3), 90, np.uint8)] * 4 + [np.full((80, 96, 3), 90, np.uint8)] * 2
    packets = [encoder.encode(VideoItem(i, image, True), keyframe=i == 2) for i, image in enumerate(pictures)]
    assert [[packet.is_keyframe for packet in group] for group in packets] == [[i in (0, 2, 4)] for i in range(6)]
    assert [group[0].pts for group in packets] == list(range(6))
    assert fit(np.zeros((1080, 1920, 3), np.uint8)).shape == (720, 1280, 3)
    assert fit(np.zeros((63, 65, 3), np.uint8)).shape == (62, 64, 3)
