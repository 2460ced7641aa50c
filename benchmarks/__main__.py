"""``python -m benchmarks``: measure, print, write ``benchmarks/results/``."""

from __future__ import annotations

import argparse
import json
import platform
import re
import resource
import shutil
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

from benchmarks import report
from benchmarks.cases import CASES, Plan

RESULTS = Path(__file__).resolve().parent / "results"
PACKAGES = (
    "gateway",
    "django",
    "gunicorn",
    "uvicorn",
    "hypercorn",
    "granian",
    "daphne",
    "channels",
    "channels_redis",
    "amqtt",
    "django-eventstream",
    "uvloop",
    "httptools",
    "h2",
    "websockets",
    "autobahn",
    "twisted",
    "msgspec",
)


def main() -> int:
    """Run the cases that were asked for; return 1 if a target was missed."""
    options = _options()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # some cases open 2,000 sockets
    plan = Plan(
        pairs=1 if options.quick else options.pairs,
        scale=0.05 if options.quick else 1.0,
        only=frozenset(options.only),
    )
    about = versions()
    for name, value in about.items():
        print(f"{name} {value}", end="  ")
    print(flush=True)
    reports = []
    for key in options.case or list(CASES):
        print(flush=True)
        found = CASES[key](plan)
        reports.append(found)
        print("\n".join(report.lines(found)), flush=True)
    print("\n" + "\n".join(report.summary(reports)))
    if options.markdown:
        print("\n" + "\n".join(report.table(reports)))
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / time.strftime("%Y%m%d-%H%M%S.json")
    target.write_text(json.dumps(report.document(reports, about), indent=1) + "\n")
    print(f"\nwritten to {target}")
    if options.quick:
        return 0
    return 0 if all(check.reached for found in reports for check in found.checks) else 1


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--case", action="append", choices=list(CASES), help="only this case; may be repeated"
    )
    parser.add_argument(
        "--only", action="append", default=[], help="only this server; may be repeated"
    )
    parser.add_argument(
        "--pairs", type=int, default=5, help="rounds of A B (default 5: a median needs some)"
    )
    parser.add_argument(
        "--quick", action="store_true", help="one round, a twentieth of the load: does it run?"
    )
    parser.add_argument(
        "--markdown", action="store_true", help="print the targets as a Markdown table as well"
    )
    options = parser.parse_args()
    if options.pairs < 1:
        parser.error("--pairs is at least 1")
    return options


def versions() -> dict[str, str]:
    """Return what was measured, and on what."""
    found = {"python": platform.python_version(), "linux": platform.release()}
    model = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    found["cpu"] = model.group(1) if model else platform.machine()
    for package in PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "absent"
    redis = shutil.which("redis-server")
    if redis is not None:
        words = subprocess.run([redis, "--version"], capture_output=True, text=True, check=True)
        match = re.search(r"v=(\S+)", words.stdout)
        found["redis"] = match.group(1) if match else words.stdout.strip()
    return found


if __name__ == "__main__":
    sys.exit(main())
