"""A file larger than the memory that the process may have is read and stored whole."""

import os
import subprocess
import sys

import duckdb
import pytest

CAP = 300 << 20  # bytes of data segment and private memory, enforced by the kernel; Python, numpy and DuckDB alone take about 100 MB
PROGRAM = """
import resource, sys
import numpy as np
import duckdb
from wavefront.data import Store, open_source

resource.setrlimit(resource.RLIMIT_DATA, (int(sys.argv[3]), int(sys.argv[3])))
source = open_source(sys.argv[1])
examples = ({"text": np.frombuffer(row["text"].encode(), np.uint8), "n": np.int64(row["n"])} for row in source.rows("all"))
store = Store.build(sys.argv[2], examples)
last = store[len(store) - 1]
print(len(store), int(store.lengths("text").sum()), int(last["n"]), bytes(last["text"][:9]).decode())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_DATA is enforced on Linux")
def test_larger_than_memory(tmp_path):
    rows, path = 40_000, tmp_path / "large.csv"
    duckdb.execute(f"COPY (SELECT repeat(lpad(n::VARCHAR, 8, '0') || ' ', 900) AS text, n FROM range({rows}) t(n)) TO '{path}'")
    assert path.stat().st_size > CAP
    arguments = [sys.executable, "-c", PROGRAM, str(path), str(tmp_path / "store"), str(CAP)]
    done = subprocess.run(
        arguments, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [str(rows), str(rows * 900 * 9), str(rows - 1), f"{rows - 1:08d}"]
