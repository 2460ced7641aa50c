"""Who gets what. The workers that face the public run with ``--exclude-channels 'vault.*'``."""

from django_gateway import route
from notary.desk import ask
from notary.vault import sign

routes = [
    route("http.request", ask, path=r"^/sign$", method=r"^POST$"),
    route("vault.sign", sign),
]
