"""Every snippet of the README and of docs/ runs: Python as it stands, commands in a folder of their own, in order."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(page, language):
    return [(found.start(), found[1]) for found in re.finditer(rf"^```{language}\n(.*?)^```", page.read_text(), re.M | re.S)]


PYTHON = [pytest.param(code, id=f"{page.name}-{start}") for page in PAGES for start, code in blocks(page, "python") if ">>>" not in code]


@pytest.mark.parametrize("code", PYTHON)
def test_python_runs(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "snippet", "exec"), {"__name__": "snippet"})


@pytest.mark.parametrize("page", [page for page in PAGES if blocks(page, "bash")], ids=lambda page: page.name)
def test_commands_run(page, tmp_path):
    """All ```bash blocks of a page, one after another, in one fresh folder."""
    bin = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{bin}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    script = "set -euo pipefail\n" + "\n".join(code for _, code in blocks(page, "bash"))
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_two_commands_are_those_of_the_makefile():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for _, code in blocks(ROOT / "README.md", "sh"):
        for line in code.splitlines():
            command = shlex.split(line, comments=True)
            assert command[0] == "make"
            assert command[1] in targets
