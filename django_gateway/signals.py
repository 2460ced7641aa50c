"""Signals of the worker, beside Django's ``request_started`` and ``request_finished``.

``consumer_started``, ``consumer_finished``
    Around each consumer, views excepted; ``sender`` is `Runner`, ``message`` the `Message`.
    Asynchronous receivers of an asynchronous consumer are awaited on the loop.
``worker_ready``
    Once, when a worker takes messages; ``sender`` is `Worker`, ``worker`` the worker.
``worker_stopping``
    Once, when it takes no more and lets finish what runs.
"""

from __future__ import annotations

from django.dispatch import Signal

consumer_started = Signal()
consumer_finished = Signal()
worker_ready = Signal()
worker_stopping = Signal()
