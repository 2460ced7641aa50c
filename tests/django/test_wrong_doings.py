"""Wrong usages that show when a consumer runs, and what it is told: a text that names the fix.

A row is (code, what the test or the log says), as in `test_wrong_usages`. The code is the module
``app`` of a project; its ``receive`` is called with a WebSocket's frame, or it has a ``routing``.
"""

import re
import sys
import textwrap
import types
import warnings

import pytest

from django_gateway import middleware, route
from django_gateway.testing import GatewayClient

PRELUDE = """
import datetime
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.utils.translation import gettext_lazy
from django_gateway import *
from django_gateway.auth import disconnect_user, http_session_user
from django_gateway.sessions import channel_session

group = Group("room")
"""

CONSUMERS = {
    "a group's name with a space": (
        "def receive(message): Group('the room').add(message.reply_channel)",
        "ValueError: group name 'the room' is not valid: ASCII letters, digits, '.', '-' and '_'",
    ),
    "a message as a member": (
        "def receive(message): group.add(message)",
        (
            "TypeError: a channel is a Channel or its name, not Message; the connection of a message "
            "is message.reply_channel"
        ),
    ),
    "a member's meta that is no dict": (
        "def receive(message): group.add(message.reply_channel, 'ann')",
        "TypeError: the meta of a member is a dict, not str",
    ),
    "a text to a group": (
        "def receive(message): group.send('hi')",
        "TypeError: a message is a dict such as {'text': 'hello'}, not str",
    ),
    "a text to a channel": (
        "def receive(message): message.reply_channel.send('hi')",
        "TypeError: a message is a dict such as {'text': 'hello'}, not str",
    ),
    "a model in a message": (
        "def receive(message): Channel('work.do').send({'user': User()})",
        (
            "TypeError: a message cannot hold User: only bytes, str, int, float, list, dict with str "
            "keys, bool and None; send what names it, such as a primary key, or str(…) of it"
        ),
    ),
    "a translation in a message": (
        "def receive(message): group.send({'text': gettext_lazy('hi')})",
        (
            "TypeError: a message cannot hold __proxy__: only bytes, str, int, float, list, dict with "
            "str keys, bool and None; send what names it, such as a primary key, or str(…) of it"
        ),
    ),
    "a translation as a reply": (
        "def receive(message): message.reply(gettext_lazy('hi'))",
        (
            "TypeError: message.reply() takes a str, bytes, or keys, not __proxy__; write "
            "message.reply(str(…)) for its text"
        ),
    ),
    "a dict as a reply": (
        "def receive(message): message.reply({'text': 'hi'})",
        (
            "TypeError: message.reply() takes a str, bytes, or keys, not dict; write "
            "message.reply(**content) for a dict, or a text with json.dumps(…)"
        ),
    ),
    "a key that the protocol does not know": (
        "def receive(message): message.reply(txt='hi')",
        "invalid reply dropped: unknown key 'txt'; did you mean 'text'?",
    ),
    "a number as a text": (
        "def receive(message): message.reply(text=5)",
        "invalid reply dropped: Expected `str`, got `int` at `$.text`",
    ),
    "a group's key that the protocol does not know": (
        "def receive(message): group.add(message.reply_channel); group.send({'txt': 'hi'})",
        "group room: invalid reply dropped by websocket: unknown key 'txt'; did you mean 'text'?",
    ),
    "a keyword misspelt": (
        "def receive(message): group.send({'text': 'hi'}, histroy=3)",
        "TypeError: Group.send() has no keyword 'histroy'; did you mean history?",
    ),
    "a keyword that only others have": (
        "async def receive(message): await message.reply_channel.asend({'text': 'hi'}, expires=3)",
        (
            "TypeError: Channel.send() has no keyword 'expires'; there are immediately, on_commit, "
            "using"
        ),
    ),
    "a keyword of add misspelt": (
        "def receive(message): group.add(message.reply_channel, anounce=True)",
        "TypeError: Group.add() has no keyword 'anounce'; did you mean announce?",
    ),
    "send of a consumer for any protocol": (
        """
        class Chat(Consumer):
            protocols = ["websocket"]
            def receive(self, message): self.send("hi")
        routing = [route_class(Chat)]
        """,
        "AttributeError: 'Chat' object has no attribute 'send'; write self.reply(…)",
    ),
    "a status where there was a handshake": (
        "def receive(message): message.reply(status=404)",
        "invalid reply dropped: the connection is accepted already",
    ),
    "a reason for a code": (
        "def receive(message): message.close('bye')",
        (
            "TypeError: message.close(code, reason): the code is an int or None, not 'bye'; write "
            "message.close(reason=…) for a reason alone"
        ),
    ),
    "a reason for Reject's code": (
        "def receive(message): raise Reject('members only')",
        (
            "TypeError: Reject(code, reason): the code is an int or None, not str; write "
            "Reject(reason=…) for a reason alone"
        ),
    ),
    "Reject returned": (
        "def receive(message): return Reject(4003)",
        "TypeError: app.receive returned Reject(…), which refuses nothing: raise it",
    ),
    "Reject returned on the loop": (
        "async def receive(message): return Reject",
        "TypeError: app.receive returned Reject(…), which refuses nothing: raise it",
    ),
    "ResponseLater by a consumer": (
        "def receive(message): raise ResponseLater",
        (
            "ResponseLater: a consumer that answers later just returns; ResponseLater is for views "
            "and the methods of an HttpConsumer"
        ),
    ),
    "a response returned": (
        "def receive(message): return HttpResponse('hi')",
        (
            "TypeError: app.receive returned an HttpResponse, as views do: a consumer answers with "
            "message.reply(status=200, content=b'…'), an HttpConsumer with a response"
        ),
    ),
    "a text returned": (
        "def receive(message): return 'hi'",
        (
            "app.receive returned a str, which nobody gets: answer with message.reply(…), or return "
            "nothing"
        ),
    ),
    "a text returned on the loop": (
        "async def receive(message): return 'hi'",
        (
            "app.receive returned a str, which nobody gets: answer with message.reply(…), or return "
            "nothing"
        ),
    ),
    "a method's text returned": (
        """
        class Room(WebsocketConsumer):
            def receive(self, text=None, bytes=None): return 'hi'
        routing = [route_class(Room)]
        """,
        (
            "app.Room.receive returned a str, which nobody gets: answer with message.reply(…), or "
            "return nothing"
        ),
    ),
    "an await forgotten": (
        "async def receive(message): group.asend({'text': 'hi'})",
        "RuntimeWarning: coroutine 'Group.asend' was never awaited",
    ),
    "a twin without a loop": (
        "def receive(message): group.asend({'text': 'hi'})",
        "RuntimeWarning: coroutine 'Group.asend' was never awaited",
    ),
    "an async consumer decorated as a plain one": (
        """
        def decorator(consumer):
            def decorated(message): return consumer(message)
            return decorated
        @decorator
        async def receive(message): pass
        """,
        (
            "TypeError: app.decorator.<locals>.decorated is no async def, yet returned a coroutine: "
            "nobody awaits it"
        ),
    ),
    "the ORM on the loop": (
        "async def receive(message): User.objects.count()",
        (
            "SynchronousOnlyOperation: You cannot call this from an async context - use a thread or "
            "sync_to_async."
        ),
    ),
    "the user on the loop": (
        "async def receive(message): message.user",
        (
            "RuntimeError: message.user may wait for a database, and this is an event loop: write "
            "user = await message.auser(); from then on message.user is there"
        ),
    ),
    "the members on the loop": (
        "async def receive(message): group.members()",
        (
            "RuntimeError: Group.members() would block the running event loop: await "
            "Group.amembers() instead"
        ),
    ),
    "a key as an attribute": (
        "def receive(message): message.path",
        "AttributeError: a message has no attribute 'path'; write message['path']",
    ),
    "send of a message": (
        "def receive(message): message.send('hi')",
        "AttributeError: a message has no attribute 'send'; write message.reply(…)",
    ),
    "the session of a request": (
        "def receive(message): message.session",
        (
            "AttributeError: a message has no attribute 'session'; write message.channel_session, or "
            "message.http_session for the browser's"
        ),
    ),
    "the user of a consumer": (
        """
        class Room(WebsocketConsumer):
            def receive(self, text=None, bytes=None): self.user
        routing = [route_class(Room)]
        """,
        "AttributeError: 'Room' object has no attribute 'user'; write self.message.user",
    ),
    "a dict in a frame": (
        """
        class Room(WebsocketConsumer):
            def receive(self, text=None, bytes=None): self.send({'hi': 1})
        routing = [route_class(Room)]
        """,
        (
            "TypeError: send(text=…) takes a str, not dict; a JsonWebsocketConsumer sends other "
            "things, as JSON"
        ),
    ),
    "bytes in a frame of text": (
        """
        class Room(WebsocketConsumer):
            def receive(self, text=None, bytes=None): self.send(b'hi')
        routing = [route_class(Room)]
        """,
        "TypeError: send(text=…) takes a str, not bytes; write send(bytes=…)",
    ),
    "a decorator of messages on a method of frames": (
        """
        class Room(WebsocketConsumer):
            @channel_session
            def receive(self, text=None, bytes=None): pass
        routing = [route_class(Room)]
        """,
        (
            "TypeError: @channel_session is for consumers: functions or methods of a message. Where a "
            "method gets frames, write self.message.user and self.message.channel_session, or "
            "decorate raw_receive"
        ),
    ),
    "no migrations": (
        """
        from django.db import connection
        def receive(message): connection.cursor().execute("select * from never_made")
        """,
        "Was `manage.py migrate` run on this database?",
    ),
    "the user of work": (
        """
        def receive(message): Channel('work.do').send({})
        def work(message): message.user
        routing = [route('websocket.receive', receive), route('work.do', work)]
        """,
        (
            "LookupError: a message of 'work.do' has no user: it belongs to no connection. Send what "
            "names the user along in it"
        ),
    ),
    "a reply to work": (
        """
        def receive(message): Channel('work.do').send({})
        def work(message): message.reply('done')
        routing = [route('websocket.receive', receive), route('work.do', work)]
        """,
        "LookupError: a message of 'work.do' has no reply_channel: nobody waits",
    ),
    "a name for a user": (
        "def receive(message): disconnect_user('ann')",
        (
            "ValueError: 'ann' is neither a user nor a primary key of User (AUTH_USER_MODEL), whose "
            "connections could be found by it; for a name, get the user first"
        ),
    ),
    "using without on_commit": (
        "def receive(message): group.send({'text': 'hi'}, using='default')",
        (
            "TypeError: Group.send(using='default') names the database whose commit is waited for: "
            "write on_commit=True, too"
        ),
    ),
}


def told(app, caplog):
    """What the test of such an application says, its log, or a warning."""
    routing = getattr(app, "routing", None) or [route("websocket.receive", app.receive)]
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        client = GatewayClient(routing=routing)
        try:
            with client.websocket("/") as ws:
                ws.send_text("hi")
        except Exception as error:  # whatever a newcomer makes of it
            notes = getattr(error, "__notes__", ())
            return "\n".join([f"{type(error).__name__}: {error}", *notes])
        finally:
            client.close()
    return "\n".join(
        [record.getMessage() for record in caplog.records]
        + [f"{one.category.__name__}: {one.message}" for one in warned]
    )


@pytest.mark.parametrize(
    ("code", "text"), [pytest.param(*row, id=name) for name, row in CONSUMERS.items()]
)
def test_wrong_doing(monkeypatch, caplog, code, text):
    """A consumer that does something wrong is told with exactly these words, which name the fix."""
    monkeypatch.setattr(middleware, "_returned", set())
    app = types.ModuleType("app")
    monkeypatch.setitem(sys.modules, "app", app)
    exec(PRELUDE + textwrap.dedent(code), vars(app))
    said = re.sub(r"0x[0-9a-f]+", "0x…", told(app, caplog))
    assert text in said.splitlines() or text in re.findall(r"(?:group|invalid reply).*", said), said
