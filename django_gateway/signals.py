"""Signals of the worker, beside Django's ``request_started`` and ``request_finished``.

``consumer_started``, ``consumer_finished``
    Around each consumer, views excepted; ``sender`` is `Runner`, ``message`` the `Message`.
    Asynchronous receivers of an asynchronous consumer are awaited on the loop.
``worker_ready``
    Once, when a worker takes messages; ``sender`` is `Worker`, ``worker`` the worker.
``worker_stopping``
    Once, when it takes no more and lets finish what runs.
``presence_joined``, ``presence_left``
    When a member joins or leaves that was added with ``announce=True``, in one worker, as a
    consumer: what receivers send is buffered, and one that raises is logged. ``sender`` is the
    class `Group`; ``group`` the `Group`, ``channel`` the `Channel`, ``meta`` a dict or None.
    Receivers are to be connected before the worker starts: in ``AppConfig.ready``, or where the
    consumers are.
"""

from __future__ import annotations

from django.dispatch import Signal

consumer_started = Signal()
consumer_finished = Signal()
worker_ready = Signal()
worker_stopping = Signal()
presence_joined = Signal()
presence_left = Signal()
