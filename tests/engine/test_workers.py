"""Networks in the workers of a loader, forked and spawned."""

import multiprocessing
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("method", sorted({"fork", "spawn"} & set(multiprocessing.get_all_start_methods())))
def test_workers_run_what_the_process_that_starts_them_has_run(method):
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("workers.py"), method], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr[-2000:]
