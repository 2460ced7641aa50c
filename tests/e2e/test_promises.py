"""What consumers and clients are promised, seen from both ends of a real gateway."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.e2e.serving import Served, wait_until


def test_a_view_answers(served: Served) -> None:
    """A Django view is served through the bus, by a worker process."""
    status, body = served.get("/pid")
    assert status == 200
    assert int(body) in served.processes()["worker"]


def test_uploads_stream(served: Served) -> None:
    """A body far over the inline limit arrives whole."""
    body = bytes(range(256)) * 8192
    assert served.get("/echo", body) == (200, body)


def test_streams(served: Served) -> None:
    """A streamed response arrives whole and in order."""
    status, body = served.get("/stream/64")
    assert status == 200
    assert body == b"".join(b"%04d" % n * 4096 for n in range(64))


def test_a_failure_tells_nothing(served: Served) -> None:
    """An exception in a view is a 500 without a word of its own."""
    status, body = served.get("/fail")
    assert status == 500
    assert b"xyzzy" not in body


def test_refused_connect(served: Served) -> None:
    """``Reject`` in a connect consumer is an HTTP status."""

    async def run() -> int:
        with pytest.raises(InvalidStatus) as refused:
            await connect(served.url("/refused", "ws"))
        return refused.value.response.status_code

    assert asyncio.run(run()) == 401


@pytest.mark.parametrize("path", ["/echo", "/aecho"])
def test_consumers_of_both_kinds(served: Served, path: str) -> None:
    """A sync and an async consumer echo alike."""

    async def run() -> list[str | bytes]:
        async with connect(served.url(path, "ws")) as socket:
            await socket.send("héllo")
            await socket.send("x" * 100_000)
            return [await socket.recv(), await socket.recv()]

    assert asyncio.run(run()) == ["héllo", "x" * 100_000]


def test_buffered_sends_vanish(served: Served) -> None:
    """What a consumer sent before it raised is never sent; it is counted."""
    before = served.total("gateway_drops_total", cause="failed")

    async def run() -> tuple[int, list[str | bytes]]:
        async with connect(served.url("/echo", "ws")) as other:
            async with connect(served.url("/buffered", "ws")) as socket:
                await socket.send("go")
                with pytest.raises(ConnectionClosed) as closed:
                    await socket.recv()
            await other.send("after")
            assert closed.value.rcvd is not None
            return closed.value.rcvd.code, [await other.recv()]

    code, heard = asyncio.run(run())
    assert code == 1011
    assert heard == ["after"]
    assert served.total("gateway_drops_total", cause="failed") >= before
    channel = f"xyz-{served.port}"
    assert served.get(f"/shout/{channel}?text=x")[0] == 200


def test_direct_and_group_sends_keep_their_order(served: Served) -> None:
    """What one consumer sends to one connection arrives in order, directly or by group."""

    async def run() -> list[int]:
        async with connect(served.url("/mixed", "ws")) as socket:
            await socket.send("go")
            return [int(await socket.recv()) for _ in range(20)]

    assert asyncio.run(run()) == list(range(20))


def test_a_view_speaks_to_sockets(served: Served) -> None:
    """A group send from an HTTP view reaches every WebSocket, whichever worker runs it."""

    async def run() -> list[str | bytes]:
        sockets = [await connect(served.url("/echo", "ws")) for _ in range(5)]
        for socket in sockets:  # each is a member once its connect was settled: an echo says so
            await socket.send("in")
            assert await socket.recv() == "in"
        status, _ = await asyncio.to_thread(served.get, "/shout/all?text=to+all")
        assert status == 200
        heard = [await socket.recv() for socket in sockets]
        for socket in sockets:
            await socket.close()
        return heard

    assert asyncio.run(run()) == ["to all"] * 5


def test_stats(served: Served) -> None:
    """``gateway stats`` prints what the gateway and its layer counted."""
    served.get("/pid")
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "stats", "--layer", f"unix://{served.socket}"],
        capture_output=True,
        text=True,
        timeout=15,
        check=True,
    )
    assert 'gateway_messages_total{kind="request",plugin="http"}' in done.stdout
    assert "gateway_layer_messages_total" in done.stdout


def test_stats_of_nobody(tmp_path: Path) -> None:
    """Where no hub is, ``gateway stats`` says so and how to mend it."""
    done = subprocess.run(
        [sys.executable, "-m", "gateway", "stats", "--layer", f"unix://{tmp_path}/none.sock"],
        capture_output=True,
        text=True,
        timeout=15,
    )
    assert done.returncode != 0
    assert "no hub answers" in done.stderr
    assert "Traceback" not in done.stderr


def test_consume_later(tmp_path: Path) -> None:
    """A released message comes again, before what came after it."""
    with Served(tmp_path, workers=2) as served:

        async def run() -> list[str | bytes]:
            async with connect(served.url("/later", "ws")) as socket:
                for number in range(4):
                    await socket.send(str(number))
                return [await socket.recv() for _ in range(4)]

        assert asyncio.run(run()) == ["0", "1", "2", "3"]
        assert served.seen.read_text().startswith("once")


def test_disconnect_once(tmp_path: Path) -> None:
    """Each accepted connection gets one disconnect, with the client's code."""
    with Served(tmp_path, workers=2) as served:

        async def run() -> None:
            for code in (1000, 1001, 4000):
                socket = await connect(served.url("/echo", "ws"))
                await socket.close(code)
            broken = await connect(served.url("/echo", "ws"))
            broken.transport.abort()

        asyncio.run(run())
        wait_until(lambda: served.seen.exists() and len(served.seen.read_text().split("\n")) > 4)
        assert served.stop() == 0
        lines = sorted(served.seen.read_text().splitlines())
        assert lines == [
            "disconnect /echo 1000",
            "disconnect /echo 1001",
            "disconnect /echo 1006",
            "disconnect /echo 4000",
        ]


def test_secrets_stay_out_of_logs(tmp_path: Path) -> None:
    """Header values, bodies and texts of messages appear in no log, even where they fail."""
    with Served(tmp_path, "--log-level", "debug", workers=1) as served:

        async def run() -> None:
            headers = {"Authorization": "Bearer sesame-open"}
            async with connect(
                served.url("/buffered?token=sesame-open", "ws"), additional_headers=headers
            ) as socket:
                await socket.send("sesame-open")
                with pytest.raises(ConnectionClosed):
                    await socket.recv()

        asyncio.run(run())
        served.get("/fail?password=sesame-open", b"sesame-open")
        assert served.stop() == 0
        assert "on purpose" in served.text()
        assert "sesame-open" not in served.text()


def test_json_logs(tmp_path: Path) -> None:
    """With ``--log-format json`` every line of the log is an object."""
    with Served(tmp_path, "--log-format", "json", workers=1) as served:
        served.get("/fail")
        assert served.stop() == 0
        lines = [line for line in served.text().splitlines() if line.startswith("{")]
        assert lines
        for line in lines:
            assert {"level", "logger", "message"} <= set(json.loads(line))


def test_a_shutdown(tmp_path: Path) -> None:
    """SIGTERM: what runs is answered, then sockets are asked to come back at moments of their own, each
    disconnect is run, the exit status is 0.
    """
    number = 20
    with Served(tmp_path, workers=2) as served:

        async def run() -> list[ConnectionClosed]:
            sockets = [await connect(served.url("/hold", "ws")) for _ in range(number)]
            busy = await connect(served.url("/hold", "ws"))
            await busy.send("500")
            await sockets[0].send("0")
            assert await sockets[0].recv() == "0"
            stopping = asyncio.ensure_future(asyncio.to_thread(served.stop))
            ends = []
            assert await busy.recv() == "500"
            for socket in (*sockets, busy):
                await socket.wait_closed()
                with pytest.raises(ConnectionClosed) as closed:
                    await socket.recv()
                ends.append(closed.value)
            assert await stopping == 0
            return ends

        ends = asyncio.run(run())
    moments = set()
    for end in ends:
        assert end.rcvd is not None
        assert end.rcvd.code == 1012
        words, _, seconds = end.rcvd.reason.partition("; retry-after=")
        assert words == "the gateway is shutting down"
        moments.add(float(seconds))
    assert len(moments) > 5
    assert served.seen.read_text().splitlines() == ["disconnect /hold 1012"] * (number + 1)
