"""Connections and users, as the tests of sessions and of users play them."""

import itertools
from contextlib import contextmanager

from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY, get_user_model
from django.core.management import call_command
from django.db.backends.utils import CursorWrapper

from tests.django.peer import Outcome

_names = itertools.count(1)
_made = []


def make_tables():
    """Have the tables of users and sessions, once."""
    if not _made:
        call_command("migrate", verbosity=0)
        _made.append(True)


def make_user(**fields):
    """A user of a new name; its password is no hash of anything."""
    fields = {"username": f"user-{next(_names)}", "password": "first"} | fields
    return get_user_model().objects.create(**fields)


def log_in(user, engine):
    """A browser's session of a logged-in user; the store."""
    session = engine.SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return session


@contextmanager
def queries_made():
    """What is asked of the database meanwhile, by any thread."""
    asked = []
    plain = CursorWrapper.execute

    def execute(self, sql, params=None):
        asked.append(sql)
        return plain(self, sql, params)

    CursorWrapper.execute = execute
    try:
        yield asked
    finally:
        CursorWrapper.execute = plain


class Line:
    """One WebSocket, as a gateway has it: its messages are settled one by one."""

    def __init__(self, peer, cookie=None, headers=(), query=b"", protocol="websocket"):
        self.peer = peer
        self.protocol = protocol
        self.name = peer.new_reply_channel()
        self.headers = [[b"host", b"example.org"], *[list(pair) for pair in headers]]
        if cookie is not None:
            self.headers.append([b"cookie", f"a=b; sessionid={cookie}".encode()])
        self.query = query
        self._order = 0

    def _settle(self, kind, **more):
        message = {"reply_channel": self.name, "order": self._order, "path": "/", **more}
        self._order += 1
        replies, outcomes = self.peer.settled(f"{self.protocol}.{kind}", message)
        return [reply.get("text", reply) for reply in replies], outcomes[0]

    def settle_connect(self):
        self._order = 0
        return self._settle("connect", headers=self.headers, query_string=self.query)

    def settle(self, text=""):
        return self._settle("receive", text=text)

    def settle_disconnect(self):
        return self._settle("disconnect", code=1000, reason="")

    def connect(self):
        """The texts that the connect consumer sent; it returned."""
        return self._texts(self.settle_connect())

    def say(self, text=""):
        return self._texts(self.settle(text))

    def leave(self):
        return self._texts(self.settle_disconnect())

    @staticmethod
    def _texts(settled):
        texts, outcome = settled
        assert outcome == Outcome("accepted")
        return texts
