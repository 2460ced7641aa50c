"""What happens is told to those whom it concerns, whoever made it happen."""

from django.contrib.auth import get_user_model
from django.db.models.signals import m2m_changed, post_save
from django.dispatch import receiver

from django_gateway import Channel
from django_gateway.auth import disconnect_user
from django_gateway.signals import presence_joined, presence_left
from rooms.consumers import RoomSocket
from rooms.models import Post, Room


@receiver(post_save, sender=Post)
def post_saved(instance, created, **kwargs):
    instance.room.tell("post", post=instance.as_json())
    if created and instance.file:
        Channel("rooms.digest").send({"post": instance.pk}, on_commit=True)


@receiver(post_save, sender=get_user_model())
def user_saved(instance, **kwargs):
    if not instance.is_active:
        disconnect_user(instance, on_commit=True)


@receiver(m2m_changed, sender=Room.members.through)
def members_changed(instance, action, reverse, pk_set, **kwargs):
    if action == "post_remove":
        for user in [instance.pk] if reverse else pk_set:
            disconnect_user(user, code=4403, reason="no longer a member", on_commit=True)


@receiver(presence_joined)
def joined(group, channel, meta, **kwargs):
    RoomSocket.group_send(group.name, {"kind": "joined", "who": channel.name, **meta})


@receiver(presence_left)
def left(group, channel, **kwargs):
    RoomSocket.group_send(group.name, {"kind": "left", "who": channel.name})
