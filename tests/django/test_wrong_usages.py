"""Wrong usages, as a project would write them, and what it is told: a text that names the fix.

A row is (code, what is raised). The code is the module ``app`` of a project; what it calls
``routing`` is compiled as a worker would. `PRELUDE` stands before it.
"""

import re
import sys
import textwrap
import types

import pytest
from django.core.exceptions import ImproperlyConfigured

PRELUDE = """
import re
from django.http import HttpResponse
from django.urls import path as django_path
from django.views import View
from django_gateway import *
from django_gateway.generic import BaseConsumer
from django_gateway.routing import Router

def consumer(message): pass
def room(message, room): pass
def nothing(): pass
def generator(message): yield message
async def later(message): pass
async def async_generator(message): yield message

class Callable:
    def __call__(self, message): pass

class Chat(Consumer):
    protocols = ["websocket"]
    def receive(self, message): pass

routes = [route("included", consumer)]
listed = ["not a route"]
"""

ROUTING = {
    "a kind misspelt": (
        'routing = [route("websocket.recieve", consumer)]',
        "ImproperlyConfigured: <route websocket.recieve to app.consumer>: websocket sends no 'websocket.recieve'; did you mean 'websocket.receive'?",
    ),
    "a kind of another framework": (
        'routing = [route("websocket.text", consumer)]',
        "ImproperlyConfigured: <route websocket.text to app.consumer>: websocket sends no 'websocket.text'; it sends websocket.connect, websocket.receive, websocket.disconnect. Channels of your own have another first word",
    ),
    "a filter without its key": (
        'route("a", consumer, path("chat/"))',
        "ImproperlyConfigured: route('a', …): a filter stands behind the key that it is for: path=path('chat/')",
    ),
    "an expression without its key": (
        'include([], "^/chat/$")',
        "ImproperlyConfigured: include(…): a filter stands behind the key that it is for: path='^/chat/$'",
    ),
    "something else without a key": (
        'route("a", consumer, 5)',
        "ImproperlyConfigured: route('a', …) takes filters by their keys alone, not 5",
    ),
    "swapped": (
        'route(consumer, "websocket.receive")',
        "ImproperlyConfigured: route() takes the channel first: route('websocket.receive', app.consumer)",
    ),
    "no channel": (
        "route([], consumer)",
        "ImproperlyConfigured: route() takes a channel's name, or a list of them, not []",
    ),
    "bytes channel": (
        'route([b"a"], consumer)',
        "ImproperlyConfigured: route(): a channel name is a str, not bytes",
    ),
    "bad channel": (
        'route("chat room", consumer)',
        "ImproperlyConfigured: route(): channel name 'chat room' is not valid: ASCII letters, digits, '.', '-', '_', and one '?' or '!' that is not first",
    ),
    "somebody's channel": (
        'route("websocket.send.p_abc!x", consumer)',
        "ImproperlyConfigured: route(): 'websocket.send.p_abc!x' belongs to one reader; a route names a normal channel ('websocket.receive') or a prefix that ends in '!'",
    ),
    "one address": (
        'route("mail.in!info", consumer)',
        "ImproperlyConfigured: route(): receive from the prefix 'mail.in!', not from 'mail.in!info'",
    ),
    "no module": (
        'route("a", "nowhere.consumers.chat")',
        "ImproperlyConfigured: route('a', …): there is no module 'nowhere' (from 'nowhere.consumers.chat')",
    ),
    "no attribute": (
        'route("a", "app.chat")',
        "ImproperlyConfigured: route('a', …): the module 'app' has no 'chat'",
    ),
    "no dotted path": (
        'route("a", "chat")',
        "ImproperlyConfigured: route('a', …): 'chat' is not a dotted path, such as 'chat.consumers.receive'",
    ),
    "called": (
        'route("a", consumer(None))',
        "ImproperlyConfigured: route('a', …): None is not a consumer; a consumer is a function of a message, or its dotted path; was it called? name it without parentheses",
    ),
    "called async": (
        'route("a", later(None))',
        "ImproperlyConfigured: route('a', …): the consumer was called; name it without parentheses",
    ),
    "a number": (
        'route("a", 42)',
        "ImproperlyConfigured: route('a', …): 42 is not a consumer; a consumer is a function of a message, or its dotted path",
    ),
    "a class": (
        'route("a", Callable)',
        "ImproperlyConfigured: route('a', …): app.Callable is a class; write route_class(Callable), with a subclass of django_gateway.Consumer",
    ),
    "a generator": (
        'route("a", generator)',
        "ImproperlyConfigured: route('a', …): app.generator has a yield in it, so calling it runs nothing; send with message.reply(…) instead",
    ),
    "an async generator": (
        'route("a", async_generator)',
        "ImproperlyConfigured: route('a', …): app.async_generator has a yield in it, so calling it runs nothing; send with message.reply(…) instead",
    ),
    "no regex": (
        'route("a", consumer, path="(")',
        "ImproperlyConfigured: route('a', …): the filter path='(' is not a regular expression: missing ), unterminated subpattern at position 0",
    ),
    "a filter's type": (
        'route("a", consumer, order=1)',
        "ImproperlyConfigured: route('a', …): the filter order=1 is not a regular expression; write it as a str: order=r'^…$'",
    ),
    "a pattern of bytes": (
        'route("a", consumer, path=re.compile(b"x"))',
        "ImproperlyConfigured: route('a', …): the filter path=re.compile(b'x') is not a regular expression; write it as a str: path=r'^…$'",
    ),
    "argument not taken": (
        'routing = [route("a", consumer, path="^/(?P<room>.*)")]',
        "ImproperlyConfigured: <route a to app.consumer>: consumer(message) cannot be called with what the route gives it; write def consumer(message, room)",
    ),
    "argument not given": (
        'routing = [route("a", room)]',
        "ImproperlyConfigured: <route a to app.room>: room(message, room) cannot be called with what the route gives it; write def room(message)",
    ),
    "captured twice": (
        'routing = [include([route("a", room, x="(?P<room>.)")], path="(?P<room>.)")]',
        "ImproperlyConfigured: <route a to app.room>: its filters capture 'room' twice; rename one",
    ),
    "no message": (
        'routing = [route("a", nothing)]',
        "ImproperlyConfigured: <route a to app.nothing>: nothing() cannot be called with what the route gives it; write def nothing(message)",
    ),
    "a bare function in the table": (
        "routing = [consumer]",
        "ImproperlyConfigured: ROUTING holds <function consumer at 0x…>: write route('channel', consumer) or include(…)",
    ),
    "a listed text": (
        'routing = "app.listed"',
        "ImproperlyConfigured: the routing 'app.listed' holds 'not a route': write route('channel', consumer) or include(…)",
    ),
    "one route": (
        'routing = route("a", consumer)',
        "ImproperlyConfigured: ROUTING is one route: put it in []",
    ),
    "a module": (
        'routing = "django_gateway.signals"',
        "ImproperlyConfigured: the routing 'django_gateway.signals' is a module: name the list in it, 'django_gateway.signals.routes'",
    ),
    "a set": (
        "routing = {1, 2}",
        "ImproperlyConfigured: ROUTING is a list of route(…) and include(…), a dict of channel and consumer, or the dotted path of one, not set",
    ),
    "include of nothing": (
        "include(None)",
        "ImproperlyConfigured: include(…) is a list of route(…) and include(…), a dict of channel and consumer, or the dotted path of one, not NoneType",
    ),
    "include's filter": (
        "include([], path=None)",
        "ImproperlyConfigured: include(…): the filter path=None is not a regular expression; write it as a str: path=r'^…$'",
    ),
}

FILTERS = {
    "no slash first": (
        'routing = [route("a", consumer, path="^chat/$")]',
        (
            "ImproperlyConfigured: <route a to app.consumer>: the filter path='^chat/$' never "
            "matches, since every path begins with a slash; write path=r'^/chat/$'"
        ),
    ),
    "no slash first, in an include": (
        'routing = [include(routes, path="chat/")]',
        (
            "ImproperlyConfigured: <route included to app.consumer>: the filter path='chat/' never "
            "matches, since every path begins with a slash; write path=r'^/chat/'"
        ),
    ),
    "a slash first": (
        'path("/chat/")',
        "ImproperlyConfigured: path('/chat/') begins with a slash, as every path does; write path('chat/')",
    ),
    "an expression in a path": (
        'path("^chat/(?P<room>[a-z]+)/$")',
        (
            "ImproperlyConfigured: path('^chat/(?P<room>[a-z]+)/$') has a regular expression in it; "
            "give that as it is, without path(), or write the parts of the path as '<slug:name>'"
        ),
    ),
    "a compiled expression in a path": (
        'path(re.compile("^chat"))',
        (
            "ImproperlyConfigured: path() takes a route such as 'chat/<slug:room>/', not "
            "re.compile('^chat'); a compiled expression is a filter as it is"
        ),
    ),
    "a bracket too few": (
        'path("chat/<slug:room/")',
        (
            "ImproperlyConfigured: path('chat/<slug:room/') has a bracket too few or too many; a "
            "part is written '<slug:name>'"
        ),
    ),
    "no such converter": (
        'path("chat/<word:room>/")',
        "ImproperlyConfigured: URL route 'chat/<word:room>/' uses invalid converter 'word'.",
    ),
    "path() forgotten": (
        'route("a", room, path="/chat/<slug:room>/")',
        (
            "ImproperlyConfigured: route('a', …): the filter path='/chat/<slug:room>/' is a route of "
            "Django's in the place of a regular expression; write path=path('chat/<slug:room>/')"
        ),
    ),
    "path() itself": (
        'route("a", room, path=path)',
        (
            "ImproperlyConfigured: route('a', …): the filter path=<function path at 0x…> is not a "
            "regular expression; write it as a str: path=r'^…$'"
        ),
    ),
    "Django's path()": (
        'route("a", room, path=django_path("chat/", room))',
        (
            "ImproperlyConfigured: route('a', …): the filter path=<URLPattern 'chat/'> is made by "
            "Django's path(); import the one of django_gateway, and give it the route alone"
        ),
    ),
    "Django's path() in the table": (
        'routing = [django_path("chat/", room)]',
        (
            "ImproperlyConfigured: ROUTING holds <URLPattern 'chat/'>: this is Django's path(), for "
            "its URLs; here stand route(…) and include(…)"
        ),
    ),
    "a captured message": (
        'routing = [route("a", consumer, path=path("<slug:message>/"))]',
        (
            "ImproperlyConfigured: <route a to app.consumer>: its filters capture 'message', which "
            "the consumer is given anyway; rename it"
        ),
    ),
}

CLASSES = {
    "a class to route": (
        'route("websocket.receive", Chat)',
        (
            "ImproperlyConfigured: route('websocket.receive', …): app.Chat is a class; write "
            "route_class(Chat), with a subclass of django_gateway.Consumer"
        ),
    ),
    "swapped": (
        'route(Chat, "websocket.receive")',
        (
            "ImproperlyConfigured: route() takes the channel first: route('websocket.receive', "
            "app.Chat); or route_class(…) with the class alone"
        ),
    ),
    "a channel besides": (
        'route_class("websocket.receive", Chat)',
        (
            "ImproperlyConfigured: route_class() takes the class alone, which says itself what its "
            "channels are: route_class(Chat, path=…)"
        ),
    ),
    "a channel instead": (
        'route_class("receive")',
        (
            "ImproperlyConfigured: route_class(…): 'receive' is not a dotted path, such as "
            "'chat.consumers.receive'"
        ),
    ),
    "an instance": (
        "route_class(Chat(None))",
        (
            "ImproperlyConfigured: route_class() takes the class, not an instance: Chat without "
            "parentheses"
        ),
    ),
    "an instance without a message": (
        "route_class(Chat())",
        (
            "ImproperlyConfigured: route_class() takes the class, not an instance: Chat without "
            "parentheses"
        ),
    ),
    "a function": (
        "route_class(consumer)",
        (
            "ImproperlyConfigured: route_class() takes a subclass of django_gateway.Consumer, not "
            "<function consumer at 0x…>; write route('websocket.receive', app.consumer)"
        ),
    ),
    "a class of something else": (
        "route_class(Callable)",
        "ImproperlyConfigured: route_class(): app.Callable is not a subclass of django_gateway.Consumer",
    ),
    "a view": (
        "route_class(View)",
        (
            "ImproperlyConfigured: route_class(): django.views.generic.base.View is not a subclass of "
            "django_gateway.Consumer; Django's views stand in its URLs"
        ),
    ),
    "a view as a consumer": (
        'route("http.request", View.as_view())',
        (
            "ImproperlyConfigured: route('http.request', …): django.views.generic.base.View.as_view."
            "<locals>.view is a view of Django's, which stands in its URLs; a consumer is a function "
            "of a message"
        ),
    ),
    "as_route without parentheses": (
        "routing = [Chat.as_route]",
        (
            "ImproperlyConfigured: ROUTING holds <bound method BaseConsumer.as_route of <class "
            "'app.Chat'>>: write Chat.as_route(), with parentheses"
        ),
    ),
    "a class in the table": (
        "routing = [Chat]",
        "ImproperlyConfigured: ROUTING holds <class 'app.Chat'>: write route_class(Chat)",
    ),
    "a route of a class alone": (
        "routing = route_class(Chat)",
        "ImproperlyConfigured: ROUTING is one include: put it in []",
    ),
    "attrs of another type": (
        'Chat.as_route(attrs=["groups"])',
        (
            "ImproperlyConfigured: Chat.as_route(attrs=…) is a dict of class attributes, not "
            "['groups']"
        ),
    ),
    "attrs misspelt": (
        'Chat.as_route(attrs={"gruops": ["chat"]})',
        (
            "ImproperlyConfigured: Chat.as_route(attrs=…): Chat has no 'gruops'; did you mean "
            "'groups'? If not, give the class one for it to take the place of"
        ),
    ),
    "no protocols": (
        """
        class Room(Consumer):
            def receive(self, message): pass
        route_class(Room)
        """,
        "ImproperlyConfigured: app.Room has no protocols; write protocols = ['websocket']",
    ),
    "protocols of one str": (
        """
        class Room(Consumer):
            protocols = "websocket"
            def receive(self, message): pass
        route_class(Room)
        """,
        ("ImproperlyConfigured: app.Room.protocols is one str; write protocols = ['websocket']"),
    ),
    "a demultiplexer's protocols of one str": (
        """
        class Room(Demultiplexer):
            protocols = "websocket"
            consumers = {"chat": Chat}
        route_class(Room)
        """,
        "ImproperlyConfigured: app.Room.protocols is one str; write protocols = ['websocket']",
    ),
    "protocols of another type": (
        """
        class Room(Consumer):
            protocols = [Channel("websocket")]
            def receive(self, message): pass
        route_class(Room)
        """,
        (
            "ImproperlyConfigured: app.Room.protocols is a list of names, such as ['websocket'], not "
            "[Channel('websocket')]"
        ),
    ),
    "a protocol misspelt": (
        """
        class Room(Consumer):
            protocols = ["websockets"]
            def receive(self, message): pass
        route_class(Room)
        """,
        (
            "ImproperlyConfigured: app.Room: there is no protocol 'websockets'; did you mean "
            "'websocket'? installed are …. For one that only the gateway has, name its "
            "channels: method_mapping = {'websockets.receive': 'receive'}"
        ),
    ),
    "no methods": (
        """
        class Room(Consumer):
            protocols = ["websocket"]
        route_class(Room)
        """,
        (
            "ImproperlyConfigured: app.Room has no method for a message of 'websocket', which are "
            "connect, receive, disconnect; write def receive(self, message)"
        ),
    ),
    "no method for one of two protocols": (
        """
        class Room(Consumer):
            protocols = ["websocket", "http"]
            def receive(self, message): pass
        route_class(Room)
        """,
        (
            "ImproperlyConfigured: app.Room has no method for a message of 'http', which are "
            "request, disconnect; write def request(self, message)"
        ),
    ),
    "a method misspelt": (
        """
        class Room(Consumer):
            protocols = ["websocket"]
            def recieve(self, message): pass
        route_class(Room)
        """,
        (
            "ImproperlyConfigured: app.Room.recieve is never called; did you mean receive? If not, "
            "begin its name with an underscore: _recieve"
        ),
    ),
    "an attribute misspelt of an EmailConsumer": (
        """
        class Support(EmailConsumer):
            mailbox = ["support@example.com"]
            def receive(self, message): pass
        route_class(Support)
        """,
        (
            "ImproperlyConfigured: app.Support.mailbox means nothing to a consumer; did you mean "
            "mailboxes? If it is your own, begin its name with an underscore: _mailbox"
        ),
    ),
    "an attribute misspelt of an IrcConsumer": (
        """
        class Staff(IrcConsumer):
            channel = ["#staff"]
            def join(self, message): pass
        route_class(Staff)
        """,
        (
            "ImproperlyConfigured: app.Staff.channel means nothing to a consumer; did you mean "
            "channels? If it is your own, begin its name with an underscore: _channel"
        ),
    ),
    "another word for an attribute": (
        """
        class Staff(IrcConsumer):
            room = "#staff"
            commands = {"!x": "x"}
            def x(self, message): pass
        route_class(Staff)
        """,
        (
            "ImproperlyConfigured: app.Staff.room means nothing to a consumer; did you mean "
            "channels? If it is your own, begin its name with an underscore: _room"
        ),
    ),
    "an attribute misspelt of an MqttConsumer, by a class above": (
        """
        class Doors(MqttConsumer):
            topic = ["doors/+door"]
        class Audited(Doors):
            def receive(self, message): pass
        route_class(Audited)
        """,
        (
            "ImproperlyConfigured: app.Audited.topic means nothing to a consumer; did you mean "
            "topics? If it is your own, begin its name with an underscore: _topic"
        ),
    ),
    "an attribute misspelt that says whose messages it takes": (
        """
        class Room(Consumer):
            protocol = "websocket"
            def receive(self, message): pass
        route_class(Room)
        """,
        (
            "ImproperlyConfigured: app.Room.protocol means nothing to a consumer; did you mean "
            "protocols? If it is your own, begin its name with an underscore: _protocol"
        ),
    ),
    "a method misspelt of a WebsocketConsumer": (
        """
        class Room(WebsocketConsumer):
            def receive(self, text=None, bytes=None): pass
            def on_connect(self, message): pass
        route_class(Room)
        """,
        (
            "ImproperlyConfigured: app.Room.on_connect is never called; did you mean connect? If "
            "not, begin its name with an underscore: _on_connect"
        ),
    ),
    "a generator": (
        """
        class Room(Consumer):
            protocols = ["websocket"]
            def receive(self, message): yield message
        route_class(Room)
        """,
        (
            "ImproperlyConfigured: app.Room: app.Room.receive has a yield in it, so calling it runs "
            "nothing; send with message.reply(…) instead"
        ),
    ),
    "an async generator": (
        """
        class Room(WebsocketConsumer):
            async def receive(self, text=None, bytes=None): yield text
        route_class(Room)
        """,
        (
            "ImproperlyConfigured: app.Room: app.Room.receive has a yield in it, so calling it runs "
            "nothing; send with message.reply(…) instead"
        ),
    ),
    "a classmethod": (
        """
        class Room(Consumer):
            protocols = ["websocket"]
            @classmethod
            def receive(cls, message): pass
        route_class(Room)
        """,
        (
            "ImproperlyConfigured: app.Room has no method for a message of 'websocket', which are "
            "connect, receive, disconnect; write def receive(self, message)"
        ),
    ),
    "an argument that is captured is not taken": (
        """
        class Room(Consumer):
            protocols = ["websocket"]
            def receive(self, message): pass
        routing = [route_class(Room, path=path("<slug:name>/"))]
        """,
        (
            "ImproperlyConfigured: <route websocket.receive to app.Room.receive>: receive(self, "
            "message) cannot be called with what the route gives it; write def receive(self, "
            "message, name)"
        ),
    ),
    "an argument that nothing captures": (
        """
        class Room(Consumer):
            protocols = ["websocket"]
            def connect(self, message, name): pass
        routing = [route_class(Room)]
        """,
        (
            "ImproperlyConfigured: <route websocket.connect to app.Room.connect>: connect(self, "
            "message, name) cannot be called with what the route gives it; write def connect(self, "
            "message)"
        ),
    ),
    "self forgotten": (
        """
        class Room(Consumer):
            protocols = ["websocket"]
            def receive(message): pass
        routing = [route_class(Room)]
        """,
        (
            "ImproperlyConfigured: <route websocket.receive to app.Room.receive>: receive(message) "
            "cannot be called with what the route gives it; write def receive(self, message)"
        ),
    ),
    "the arguments of a function": (
        """
        class Room(WebsocketConsumer):
            def receive(self, message): pass
        routing = [route_class(Room)]
        """,
        (
            "ImproperlyConfigured: <route websocket.receive to app.Room.receive>: receive(self, "
            "message) cannot be called with what the route gives it; write def receive(self, "
            "text=None, bytes=None)"
        ),
    ),
    "text alone": (
        """
        class Room(WebsocketConsumer):
            def receive(self, text, name): pass
        routing = [route_class(Room, path=path("<slug:name>/"))]
        """,
        (
            "ImproperlyConfigured: <route websocket.receive to app.Room.receive>: receive(self, "
            "text, name) cannot be called with what the route gives it; write def receive(self, "
            "text=None, bytes=None, *, name)"
        ),
    ),
    "no content": (
        """
        class Room(JsonWebsocketConsumer):
            def receive(self): pass
        routing = [route_class(Room)]
        """,
        (
            "ImproperlyConfigured: <route websocket.receive to app.Room.receive>: receive(self) "
            "cannot be called with what the route gives it; write def receive(self, content)"
        ),
    ),
    "a captured text": (
        """
        class Room(WebsocketConsumer):
            def receive(self, text=None, bytes=None): pass
        routing = [route_class(Room, path=path("<slug:text>/"))]
        """,
        (
            "ImproperlyConfigured: <route websocket.receive to app.Room.receive>: its filters "
            "capture 'text', which the consumer is given anyway; rename it"
        ),
    ),
    "groups of one str": (
        """
        class Room(WebsocketConsumer):
            groups = "room"
            def receive(self, text=None, bytes=None): pass
        route_class(Room)
        """,
        (
            "ImproperlyConfigured: app.Room.groups is 'room'; write a list of names: groups = "
            "['room']"
        ),
    ),
    "a bad group": (
        """
        class Room(WebsocketConsumer):
            groups = ["the room"]
            def receive(self, text=None, bytes=None): pass
        route_class(Room)
        """,
        (
            "ImproperlyConfigured: app.Room.groups: group name 'the room' is not valid: ASCII "
            "letters, digits, '.', '-' and '_'"
        ),
    ),
    "groups without a connect": (
        """
        class Room(Consumer):
            protocols = ["http"]
            groups = ["room"]
            def request(self, message): pass
        route_class(Room)
        """,
        (
            "ImproperlyConfigured: app.Room.groups are joined at connect, and http has none; join "
            "them in a method: Group(name).add(message.reply_channel)"
        ),
    ),
    "groups that do not take what is captured": (
        """
        class Room(WebsocketConsumer):
            def groups(self): return ["room"]
            def receive(self, text=None, bytes=None, *, name): pass
        routing = [route_class(Room, path=path("<slug:name>/"))]
        """,
        (
            "ImproperlyConfigured: <route websocket.connect to app.Room.connect>: groups(self) cannot "
            "be called with what the route gives it; write def groups(self, name)"
        ),
    ),
    "an empty class with a method_mapping forgotten": (
        """
        class Room(BaseConsumer):
            def receive(self, message): pass
        route_class(Room)
        """,
        (
            "ImproperlyConfigured: app.Room has no method_mapping; write method_mapping = "
            "{'websocket.receive': 'receive'}"
        ),
    ),
    "a method_mapping of another type": (
        """
        class Room(BaseConsumer):
            method_mapping = ["websocket.receive"]
        route_class(Room)
        """,
        (
            "ImproperlyConfigured: app.Room.method_mapping is a dict of channel and method's name: "
            "{'websocket.receive': 'receive'}, not ['websocket.receive']"
        ),
    ),
    "a method_mapping to a function": (
        """
        class Room(BaseConsumer):
            method_mapping = {"websocket.receive": consumer}
        route_class(Room)
        """,
        (
            "ImproperlyConfigured: app.Room.method_mapping: 'websocket.receive' leads to a method's "
            "name, not to <function consumer at 0x…>"
        ),
    ),
    "a method_mapping to no method": (
        """
        class Room(BaseConsumer):
            method_mapping = {"websocket.receive": "take"}
        route_class(Room)
        """,
        (
            "ImproperlyConfigured: app.Room has no 'take', which 'websocket.receive' leads to; write "
            "def take(self, message)"
        ),
    ),
    "a method_mapping to something else": (
        """
        class Room(BaseConsumer):
            method_mapping = {"websocket.receive": "take"}
            @staticmethod
            def take(message): pass
        route_class(Room)
        """,
        (
            "ImproperlyConfigured: app.Room.take is a staticmethod; write a method: def take(self, "
            "message)"
        ),
    ),
    "a bad channel": (
        """
        class Room(BaseConsumer):
            method_mapping = {"the room": "take"}
            def take(self, message): pass
        route_class(Room)
        """,
        (
            "ImproperlyConfigured: app.Room.method_mapping: channel name 'the room' is not valid: "
            "ASCII letters, digits, '.', '-', '_', and one '?' or '!' that is not first"
        ),
    ),
    "dispatch of the other kind": (
        """
        class Room(Consumer):
            protocols = ["websocket"]
            async def dispatch(self, message, **kwargs): pass
            def receive(self, message): pass
        route_class(Room)
        """,
        (
            "ImproperlyConfigured: app.Room.dispatch is async def, and connect is not; make both the "
            "same"
        ),
    ),
    "no verbs": (
        """
        class Page(HttpConsumer):
            def GET(self, request): pass
        route_class(Page)
        """,
        (
            "ImproperlyConfigured: app.Page has no method for a request; write def get(self, request)"
        ),
    ),
    "a verb that does not take what is captured": (
        """
        class Page(HttpConsumer):
            def get(self, request): pass
        routing = [route_class(Page, path=path("<int:pk>/"))]
        """,
        (
            "ImproperlyConfigured: <route http.request to app.Page>: get(self, request) cannot be "
            "called with what the route gives it; write def get(self, request, pk)"
        ),
    ),
    "a verb with a yield": (
        """
        class Page(HttpConsumer):
            def get(self, request): yield b""
        route_class(Page)
        """,
        (
            "ImproperlyConfigured: app.Page: app.Page.get has a yield in it, so calling it runs "
            "nothing; return StreamingHttpResponse(…) instead"
        ),
    ),
    "sessions of connections for requests": (
        """
        class Page(HttpConsumer):
            http_user = True
            def get(self, request): pass
        route_class(Page)
        """,
        (
            "ImproperlyConfigured: app.Page.http_user does nothing for requests, which pass "
            "Django's MIDDLEWARE: take it away, and use request.session and request.user"
        ),
    ),
    "a decorator of sessions for requests": (
        """
        from django_gateway.sessions import http_session
        class Page(HttpConsumer):
            @http_session
            def get(self, request): pass
        route_class(Page)
        """,
        (
            "ImproperlyConfigured: app.Page.get is decorated for sessions of messages, which does "
            "nothing for requests, which pass Django's MIDDLEWARE: take it away, and use "
            "request.session and request.user"
        ),
    ),
    "dispatch of the other kind than a verb": (
        """
        class Page(HttpConsumer):
            async def dispatch(self, request, **kwargs): pass
            def get(self, request): pass
        route_class(Page)
        """,
        (
            "ImproperlyConfigured: app.Page.dispatch is async def, and get is not; make both the same"
        ),
    ),
    "state without connections": (
        """
        class Room(Consumer):
            protocols = ["websocket", "http"]
            stateful = True
            def receive(self, message): pass
            def request(self, message): pass
        route_class(Room)
        """,
        (
            "ImproperlyConfigured: app.Room is stateful, and 'http' has no connections: each "
            "request is on its own. Take requests in a class of their own, without stateful"
        ),
    ),
    "a page with state": (
        """
        class Page(HttpConsumer):
            stateful = True
            def get(self, request): pass
        route_class(Page)
        """,
        (
            "ImproperlyConfigured: app.Page is stateful, and 'http' has no connections: each "
            "request is on its own. Take requests in a class of their own, without stateful"
        ),
    ),
    "state of a channel": (
        """
        class Room(Consumer):
            protocols = ["websocket"]
            stateful = True
            method_mapping = {"thumbnails.make": "make"}
            def receive(self, message): pass
            def make(self, message): pass
        route_class(Room)
        """,
        (
            "ImproperlyConfigured: app.Room is stateful, and 'thumbnails.make' belongs to no "
            "connection that it sees begin and end: lead 'thumbnails.connect' and "
            "'thumbnails.disconnect' to methods, too, or put make into a class of its own, without "
            "stateful"
        ),
    ),
    "reconnected without state": (
        """
        class Room(Consumer):
            protocols = ["websocket"]
            def receive(self, message): pass
            def reconnected(self, message): pass
        route_class(Room)
        """,
        (
            "ImproperlyConfigured: app.Room.reconnected is never called: there is nothing to go on "
            "with. Write stateful = True in Room, or leave the method out"
        ),
    ),
    "reconnected misspelt": (
        """
        class Room(Consumer):
            protocols = ["websocket"]
            stateful = True
            def receive(self, message): pass
            def reconected(self, message): pass
        route_class(Room)
        """,
        (
            "ImproperlyConfigured: app.Room.reconected is never called; did you mean reconnected? "
            "If not, begin its name with an underscore: _reconected"
        ),
    ),
    "no method reconnected": (
        """
        class Room(Consumer):
            protocols = ["websocket"]
            stateful = True
            reconnected = True
            def receive(self, message): pass
        route_class(Room)
        """,
        (
            "ImproperlyConfigured: app.Room.reconnected is True; write a method: def "
            "reconnected(self, message)"
        ),
    ),
    "reconnected that does not take what is captured": (
        """
        class Room(Consumer):
            protocols = ["websocket"]
            stateful = True
            def receive(self, message, pk): pass
            def connect(self, message, pk): pass
            def reconnected(self, message): pass
        routing = [route_class(Room, path=path("<int:pk>/"))]
        """,
        (
            "ImproperlyConfigured: <route websocket.receive to app.Room.receive>: "
            "reconnected(self, message) cannot be called with what the route gives it; write def "
            "reconnected(self, message, pk)"
        ),
    ),
}


def rows(**tables):
    return [
        pytest.param(code, text, id=f"{table}-{name}")
        for table, cases in tables.items()
        for name, (code, text) in cases.items()
    ]


@pytest.mark.parametrize(("code", "text"), rows(routing=ROUTING, filters=FILTERS, classes=CLASSES))
def test_wrong_usage(monkeypatch, code, text):
    """A wrong usage is refused with exactly this text, which names the fix."""
    app = types.ModuleType("app")
    monkeypatch.setitem(sys.modules, "app", app)
    exec(PRELUDE, vars(app))
    code = textwrap.dedent(code) + "\nRouter(globals().get('routing'))"
    with pytest.raises((ImproperlyConfigured, TypeError, ValueError)) as caught:
        exec(code, vars(app))
    said = f"{type(caught.value).__name__}: {caught.value}"
    said = re.sub(r"0x[0-9a-f]+", "0x…", said)
    assert re.sub(r"installed are [a-z, ]+", "installed are …", said) == text
