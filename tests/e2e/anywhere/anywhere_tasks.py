"""A task queue of forked processes, which send; so does the one that forks them, before."""

import os
import time

from celery import Celery
from celery.signals import worker_init

from django_gateway import Group

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "anywhere_settings")

app = Celery("anywhere")
app.config_from_object("django.conf:settings", namespace="CELERY")


@worker_init.connect
def begun(**_):
    Group("all").send({"text": f"parent {os.getpid()}"})


@app.task
def tell():
    Group("all").send({"text": f"task {os.getpid()}"})
    time.sleep(0.2)  # so that the next one is another process's
