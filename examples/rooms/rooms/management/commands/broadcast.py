from django.core.management.base import BaseCommand

from rooms.models import Room


class Command(BaseCommand):
    help = "Say something in every room."

    def add_arguments(self, parser):
        parser.add_argument("text")

    def handle(self, *, text, **options):
        for room in Room.objects.all():
            room.tell("notice", text=text)
