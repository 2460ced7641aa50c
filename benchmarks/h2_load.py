"""HTTP/2 over TLS by ``h2load`` (nghttp2-client): a client of its own, the same for every server.

`CONNECTIONS` connections with `STREAMS` requests on the way on each; they are opened once, so
that of what is measured a handshake is the smallest part.
"""

from __future__ import annotations

import asyncio
import re
import shutil
import tempfile

from benchmarks.http_load import HEADERS, LIMIT_SECONDS, LoadError
from benchmarks.sample import Meter, Sample
from benchmarks.servers import Running

CONNECTIONS = 8
STREAMS = 8

_ANSWERED = re.compile(r"status codes: (\d+) 2xx")
_PROTOCOL = "Application protocol: h2\n"


def missing() -> bool:
    """Return whether there is no h2load."""
    return shutil.which("h2load") is None


def _headers() -> list[str]:
    """Return what the HTTP/1.1 client sends, as options."""
    lines = HEADERS.decode().splitlines()
    return [f"--header={line}" for line in lines if line and not line.startswith("Host:")]


async def h2_load(server: Running, *, count: int) -> Sample:
    """Send ``count`` requests for the trivial view."""
    with tempfile.NamedTemporaryFile(prefix="bench-h2load-") as log:
        argv = [
            *("h2load", f"--requests={count}", f"--clients={CONNECTIONS}"),
            *(f"--max-concurrent-streams={STREAMS}", f"--log-file={log.name}", *_headers()),
            f"https://127.0.0.1:{server.port}/",
        ]
        with Meter(server) as meter:
            client = await asyncio.create_subprocess_exec(
                *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
            )
            try:
                async with asyncio.timeout(LIMIT_SECONDS):
                    output, _ = await client.communicate()
            finally:
                if client.returncode is None:
                    client.kill()
                    await client.wait()
        said = output.decode()
        answered = _ANSWERED.search(said)
        if answered is None or int(answered[1]) != count or _PROTOCOL not in said:
            raise LoadError(f"{server.name}: h2load was not answered as it should be:\n{said}")
        log.seek(0)
        latencies = latencies_of(log.read().decode())
    return Sample(count, meter.cpu, meter.seconds, latencies)


def latencies_of(log: str) -> list[float]:
    """Return the seconds of each request in h2load's log: start, status, microseconds."""
    return [int(line.split()[2]) / 1e6 for line in log.splitlines()]
