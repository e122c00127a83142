"""What is read from the Hub, tried against a server on this machine: see `cases.py`."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

CASES = Path(__file__).with_name("cases.py")


def test_all_cases_hold_against_a_hub_on_this_machine(tmp_path: Path) -> None:
    """In a process of their own, as libraries read the address of the Hub when they are imported."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    environment = {
        **os.environ, "HF_ENDPOINT": f"http://127.0.0.1:{port}", "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "0", "HF_DATASETS_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_TOKEN": "", "no_proxy": "*",
    }  # fmt: skip
    for name in [name for name in environment if name.startswith(("PYTEST_", "HF_DATASETS_CACHE", "HF_HUB_CACHE"))]:
        del environment[name]
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--basetemp", str(tmp_path / "cases")]
    command = [sys.executable, "-m", "pytest", *options, str(CASES)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=CASES.parents[2])
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert re.search(r"\b\d\d passed", done.stdout), done.stdout[-500:]
