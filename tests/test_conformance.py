"""Recorded answers of a real Loki: at least as many are met as the committed number says."""

import re
import subprocess
import sys

import pytest
from support import SHARED
from test_filter_command import floor


def test_conformance(serve, tmp_path):
    runner = SHARED / "conformance/run.py"
    if not runner.is_file():
        pytest.skip(f"{runner} is not here: the recorded answers were not compared")
    one, two = serve(), serve(None, "--tenants-required", "true")
    done = subprocess.run(
        [sys.executable, runner, "--url", one.url, "--auth-url", two.url, "--keep-going", "--jobs", "4",
         "--json", tmp_path / "report.json"],
        capture_output=True, text=True, timeout=1200, check=False, cwd=runner.parent,
    )  # fmt: skip
    passed, failed = map(int, re.findall(r"(\d+) passed, (\d+) failed", done.stdout)[-1])
    print(done.stdout[-4000:])
    wanted = floor("conformance")
    assert passed >= wanted, f"{passed} answers are Loki's, {wanted} were before\n{done.stdout[-4000:]}{done.stderr[-2000:]}"
