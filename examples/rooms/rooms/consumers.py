import hashlib

from django_gateway import JsonWebsocketConsumer, Reject
from rooms.forms import SayForm
from rooms.models import Post, Room

HISTORY = 50


def admitted(user, slug):
    """Return the room, or refuse: with a status at connect, later by closing."""
    if not user.is_authenticated:
        raise Reject(401, "log in first")
    room = Room.objects.filter(slug=slug).first()
    if room is None:
        raise Reject(404, "there is no such room")
    if not room.admits(user):
        raise Reject(403, "members only")
    return room


class RoomSocket(JsonWebsocketConsumer):
    """A page in which a room is open."""

    def connect(self, message, room):
        room = admitted(message.user, room)
        # First a member, then the history: what is said meanwhile comes twice rather than never.
        room.group.add(
            self.reply_channel,
            {"name": message.user.get_username()},
            announce=True,
            immediately=True,
        )
        posts = room.posts.select_related("author").order_by("-pk")[:HISTORY]
        self.send(
            {
                "kind": "welcome",
                "posts": [post.as_json() for post in reversed(posts)],
                "here": {
                    channel: meta["name"]
                    for channel, meta in room.group.members().items()
                    if meta  # who waits for news by HTTP has none
                },
            }
        )

    def receive(self, content, room):
        post = Post(room=admitted(self.message.user, room), author=self.message.user)
        form = SayForm(content if isinstance(content, dict) else {}, instance=post)
        if form.is_valid():
            form.save()  # and receivers.py tells the room
        else:
            self.send({"kind": "refused", "errors": form.errors.get_json_data()})


def digest(message):
    """Work for whichever worker is free: the checksum of what was uploaded."""
    post = Post.objects.select_related("room", "author").get(pk=message["post"])
    with post.file.open() as file:
        post.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    post.save(update_fields=["sha256"])
