"""Clients that send or take slowly hold no thread that others need."""

import asyncio
import threading
import time
from contextlib import suppress

import pytest

from django_gateway.body import stream_body, streams_body
from django_gateway.crew import Crew, await_client, on_thread
from django_gateway.exceptions import RequestAborted
from tests.django.peer import Outcome, assemble, nothing_left, wait_until
from tests.django.project.views import async_hello, hello
from tests.django.test_views import send_body

BODY = bytes(range(256)) * 1000
CUT = Outcome("failed", cause="RequestAborted")


def consumers():
    """Return how many threads consume."""
    return sum(thread.name.startswith("consumer-") for thread in threading.enumerate())


def begin(peer, path, channel="http.body?slow"):
    """Post a request whose body has only begun; return it."""
    request = peer.request(path, "POST", body=BODY[:1000], body_channel=channel)
    peer.post("http.request", request)
    return request


def end(peer, request):
    """Answer all that comes until the outcome; return the response and the outcome."""
    replies = []
    while True:
        place, message = peer.hear()
        assert place is not None, "no outcome came"
        if place == "outcome":
            return assemble(replies), message
        if place == request["reply_channel"]:
            replies.append(message)
            peer.answer(message)


def test_a_slow_upload_holds_no_thread(work, peer):
    """While a body is under way its view has not begun, and the only thread is free."""
    work(threads=1)
    requests = [begin(peer, "/body/", f"http.body?{number}") for number in range(5)]
    assert peer.ask("/").content == b"hello"
    assert consumers() == 1
    for number, request in enumerate(requests):
        send_body(peer, f"http.body?{number}", BODY, 1000)
        response, _ = end(peer, request)
        assert response.content == b"%d %d" % (len(BODY), sum(BODY))
    assert nothing_left(peer)


def test_the_view_of_an_upload(work, peer, noted):
    """The view of a collected body has a thread; its database connection is closed after it,
    and what it sends leaves with its outcome.
    """
    work(threads=1)
    request = begin(peer, "/thread-of-body/")
    send_body(peer, "http.body?slow", BODY, 1000)
    response, outcome = end(peer, request)
    assert response.content == b"consumer-lent"
    assert outcome == Outcome("accepted")
    assert noted.pop().connection is None
    assert peer.layer.receive(["elsewhere"], block=5)[1] == {"bytes": len(BODY)}


def test_an_upload_for_nobody(work, peer):
    """Where there is no view, nobody waits for the body."""
    work(threads=1)
    response, _ = end(peer, begin(peer, "/nowhere/"))
    assert response.status == 404


def test_a_streamed_body_can_be_refused_early(work, peer):
    """A view that streams its body is called at once, and may answer without reading it."""
    work(threads=1)
    response, _ = end(peer, begin(peer, "/unread-body/"))
    assert (response.status, response.content) == (403, b"no, thank you")


def test_stream_body_leaves_the_view_alone():
    """The decorator returns a view of its own; it refuses what it cannot do."""
    streamed = stream_body(hello)
    assert streamed.__name__ == "hello"
    assert streamed(None).content == b"hello"
    assert streams_body(streamed)
    assert not streams_body(hello)
    with pytest.raises(TypeError, match="asynchronous"):
        stream_body(async_hello)


def test_a_streamed_body_has_a_stand_in(work, peer):
    """A thread that waits for more of a body is stood in for; afterwards there is one again."""
    work(threads=1)
    request = begin(peer, "/streamed-body/")
    assert peer.ask("/").content == b"hello"
    assert consumers() == 2
    send_body(peer, "http.body?slow", BODY, 1000)
    response, _ = end(peer, request)
    assert response.content == b"%d %d" % (len(BODY), sum(BODY))
    wait_until(lambda: consumers() == 1)
    assert peer.ask("/").content == b"hello"
    assert nothing_left(peer)


def stream(peer):
    """Ask for a long stream; return the request and its first piece with an ack."""
    request = peer.request("/stream/1000/")
    peer.post("http.request", request)
    while True:
        place, message = peer.hear()
        assert place == request["reply_channel"]
        if "ack" in message:
            return request, message


def test_a_slow_reader_has_a_stand_in(work, peer, noted):
    """A thread whose synchronous iterator waits for its client is stood in for."""
    work(threads=1)
    _, piece = stream(peer)
    peer.post("http.request", peer.request("/"))
    content = b""
    while content != b"hello":
        content = peer.hear()[1].get("content")
    peer.answer(piece, "failed")
    wait_until(lambda: list(noted) == ["closed"])
    wait_until(lambda: consumers() == 1)


def test_the_slowest_client_is_given_up(work, peer, noted):
    """Where stand-ins are used up, the client that waited longest loses its thread, counted."""
    worker = work(threads=1, stand_ins=2)
    first = begin(peer, "/streamed-body/", "http.body?first")
    wait_until(lambda: consumers() == 2)
    begin(peer, "/streamed-body/", "http.body?second")
    wait_until(lambda: consumers() == 3)
    begin(peer, "/streamed-body/", "http.body?third")
    assert end(peer, first) == (None, CUT)
    assert worker.metrics.dropped() == {"slow": 1}
    assert consumers() == 3
    assert peer.ask("/").content == b"hello"
    for channel in ("http.body?second", "http.body?third"):
        peer.layer.send(channel, {"closed": True})
        assert peer.hear() == ("outcome", CUT)
    wait_until(lambda: consumers() == 1)
    assert peer.ask("/").content == b"hello"


# ---------------------------------------------------------------- the crew alone


class Gate:
    """What a client's word is, without a layer: `receive` waits until `send`."""

    def __init__(self):
        self._said = threading.Event()

    def receive(self, channels, block):
        return (channels[0], {"said": True}) if self._said.wait(block) else (None, None)

    def send(self, channel, message):
        self._said.set()


@pytest.fixture
def crew():
    """A crew of two, and two stand-ins, whose threads run what is put into ``crew.jobs``."""
    import queue

    jobs = queue.Queue()
    given_up, aside = [], []

    def work():
        while not crew.spare():
            job = jobs.get()
            if job is None:
                return
            with suppress(RequestAborted):
                job()

    crew = Crew(2, 2, work, lambda: aside.append(1), lambda: given_up.append(1))
    crew.jobs, crew.counted = jobs, given_up
    crew.start()
    yield crew
    for _ in range(10):
        jobs.put(None)
    assert crew.join(time.monotonic() + 5)


def wait_for(gate, seconds=5.0):
    return lambda: await_client(gate, "x", seconds)


def test_quick_answers_need_no_stand_in(crew):
    """A client that answers at once costs no thread."""
    gate = Gate()
    gate.send("x", {})
    done = threading.Event()
    crew.jobs.put(wait_for(gate))
    crew.jobs.put(done.set)
    assert done.wait(5)
    assert consumers() == 2


def test_the_number_of_threads(crew):
    """There are as many threads at work as ever, whoever waits; none too many afterwards."""
    gates = [Gate() for _ in range(4)]
    for number, gate in enumerate(gates):
        crew.jobs.put(wait_for(gate))
        wait_until(lambda number=number: len(crew._waits) == min(number + 1, 2))
        wait_until(lambda number=number: len(crew.counted) == max(0, number - 1))
    wait_until(lambda: consumers() == 4)
    for gate in gates:
        gate.send("x", {})
    for _ in range(2):
        crew.jobs.put(lambda: None)
    wait_until(lambda: consumers() == 2)
    assert len(crew.counted) == 2


def lend(crew, calls):
    """Lend threads for these calls at once; return what they return or raise."""

    async def run():
        crew.enlist()
        return await asyncio.gather(*(on_thread(call) for call in calls), return_exceptions=True)

    return asyncio.run(run())


def test_lent_threads(crew):
    """The loop borrows no more threads at once than the crew has."""
    lock = threading.Lock()
    running = most = 0

    def call():
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.01)
        with lock:
            running -= 1
        return threading.current_thread().name

    assert set(lend(crew, [call] * 10)) == {"consumer-lent"}
    assert most == 2


def test_a_lent_thread_that_raises(crew):
    """What it raises is raised where it is awaited."""

    def call():
        raise LookupError("lost")

    (error,) = lend(crew, [call])
    assert isinstance(error, LookupError)


def test_a_lent_thread_that_waits(crew):
    """One that waits for a client makes room for another, and needs no stand-in."""
    gates = [Gate(), Gate()]
    seen = []

    def last():
        seen.append(consumers())
        for gate in gates:
            gate.send("x", {})

    found = lend(crew, [wait_for(gates[0]), wait_for(gates[1]), last])
    assert found == [{"said": True}, {"said": True}, None]
    assert seen == [2 + 3]
