from django.conf import settings
from django.db import models
from django.urls import reverse

from django_gateway import Group, JsonWebsocketConsumer


class Room(models.Model):
    slug = models.SlugField(unique=True)
    title = models.CharField(max_length=100)
    private = models.BooleanField(default=False, help_text="for its members alone")
    members = models.ManyToManyField(settings.AUTH_USER_MODEL, blank=True, related_name="rooms")

    def __str__(self):
        return self.title

    def get_absolute_url(self):
        return reverse("room", args=[self.slug])

    def admits(self, user):
        return not self.private or self.members.contains(user)

    @property
    def group(self):
        return Group(f"room-{self.slug}")

    def tell(self, kind, **content):
        """Tell everybody who is in the room, once the transaction is committed."""
        JsonWebsocketConsumer.group_send(self.group.name, {"kind": kind, **content}, on_commit=True)


class Post(models.Model):
    room = models.ForeignKey(Room, models.CASCADE, related_name="posts")
    author = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE)
    text = models.CharField(max_length=1000)
    file = models.FileField(upload_to="uploads/", blank=True)
    sha256 = models.CharField(max_length=64, blank=True)
    sent = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["pk"]

    def __str__(self):
        return f"{self.author}: {self.text}"

    def as_json(self):
        return {
            "id": self.pk,
            "author": self.author.get_username(),
            "text": self.text,
            "sent": self.sent,
            "file": reverse("download", args=[self.pk]) if self.file else None,
            "sha256": self.sha256,
        }
