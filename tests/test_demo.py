"""`make run ONCE=1` does what the README says."""

import os
import shutil
import subprocess
import sys

from support import BINARY, ROOT, free_port


def test_the_demo_ends_well():
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/demo.py", "--once", "--port", str(free_port())],
        capture_output=True, text=True, timeout=600, check=False,
        env={**os.environ, "RANKLINE_BIN": str(BINARY)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "IndexError: index out of range in self" in done.stdout
    assert "Add → Loki" in done.stdout
    shutil.rmtree(ROOT / ".rankline/demo", ignore_errors=True)


def test_a_busy_port_is_said(serve):
    server = serve("memory://")
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/demo.py", "--once", "--port", str(server.port)],
        capture_output=True, text=True, timeout=60, check=False, env={**os.environ, "RANKLINE_BIN": str(BINARY)},
    )  # fmt: skip
    assert done.returncode == 1 and f"port {server.port} is taken" in done.stderr
