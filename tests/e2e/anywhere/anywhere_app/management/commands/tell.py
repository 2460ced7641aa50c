from django.core.management.base import BaseCommand

from django_gateway import Group


class Command(BaseCommand):
    def add_arguments(self, parser):
        parser.add_argument("text")

    def handle(self, *, text, **options):
        Group("all").send({"text": text})
