"""Machine code that is kept for later processes, and loaded without LLVM."""

import os
import subprocess
import sys
from collections import OrderedDict
from copy import deepcopy

import pytest
import torch

from wavefront import Recurrent, cells
from wavefront.engine.backends.compiled import elf, native, store

pytestmark = pytest.mark.skipif(not elf.can_load(), reason="object files are loaded on Linux, x86-64")

RUN = """
import sys, torch
from wavefront import Recurrent, cells
torch.manual_seed(0)
net = Recurrent(cells.LSTM(3, 20), backend="compiled")
outputs = net(torch.randn(4, 5, 3))[0]
outputs.sum().backward()
print("llvmlite.binding" in sys.modules, float(outputs.double().sum()), float(net.cell.W.weight.grad.double().sum()))
"""


def start(folder):
    environment = os.environ | {"WAVEFRONT_CACHE": str(folder)}
    return subprocess.Popen([sys.executable, "-c", RUN], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def finish(process):
    out, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors[-2000:]
    return out.split()


def test_a_later_process_needs_no_llvm(tmp_path):
    both = [start(tmp_path / "code") for _ in range(2)]  # at the same time, into the same folder
    made = [finish(process) for process in both]
    again = finish(start(tmp_path / "code"))
    assert made[0] == made[1] == ["True", *again[1:]]
    assert again[0] == "False"
    assert not [path for path in (tmp_path / "code").iterdir() if len(path.name) != 64]


def test_references_of_another_kind_are_left_to_llvm(monkeypatch):
    def refuse(self, code, symbols):
        raise elf.UnknownReference("reference of type 42")

    cell, x = cells.MGU(3, 19), torch.randn(2, 4, 3)
    found = Recurrent(cell, backend="reference")(x)[0]
    monkeypatch.setattr(elf.Library, "__init__", refuse)
    torch.testing.assert_close(Recurrent(cell, backend="compiled")(x)[0], found)


def test_what_is_damaged_is_made_anew(tmp_path, monkeypatch):
    monkeypatch.setenv("WAVEFRONT_CACHE", str(tmp_path / "code"))
    store.keep("a", b"some code")
    assert store.find("a") == b"some code"
    whole = (tmp_path / "code" / "a").read_bytes()
    for damaged in (b"", whole[:10], whole[:-1], whole[:-1] + b"x"):
        (tmp_path / "code" / "a").write_bytes(damaged)
        assert store.find("a") is None
    store.keep("a", b"some code")
    assert store.find("a") == b"some code"
    assert store.find("b") is None


def test_nothing_is_taken_from_where_others_can_write(tmp_path, monkeypatch):
    monkeypatch.setenv("WAVEFRONT_CACHE", str(tmp_path))
    tmp_path.chmod(0o700)
    store.keep("a", b"some code")
    tmp_path.chmod(0o777)
    assert store.find("a") is None
    store.keep("b", b"other code")
    assert not (tmp_path / "b").exists()


def test_off_and_where_nothing_can_be_written(tmp_path, monkeypatch):
    monkeypatch.setenv("WAVEFRONT_CACHE", "")
    assert store.folder() is None
    store.keep("a", b"some code")
    assert store.find("a") is None
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("WAVEFRONT_CACHE", str(tmp_path / "file"))
    store.keep("a", b"some code")
    assert store.find("a") is None


def test_those_used_longest_ago_go_first(tmp_path, monkeypatch):
    monkeypatch.setenv("WAVEFRONT_CACHE", str(tmp_path / "code"))
    monkeypatch.setattr(store, "MOST", 3 * (100 + store.DIGEST))
    for n, key in enumerate("abc"):
        store.keep(key, bytes(100))
        os.utime(tmp_path / "code" / key, (n, n))
    store.find("a")
    store.keep("d", bytes(100))
    assert sorted(path.name for path in (tmp_path / "code").iterdir()) == ["a", "c", "d"]


def test_loaded_code_and_code_made_by_llvm_in_place(monkeypatch):
    """Machines whose object files cannot be loaded: the same results, through LLVM's own loader."""
    torch.manual_seed(0)
    x = torch.randn(4, 6, 3)
    cell = cells.LSTM(3, 21)
    ours = Recurrent(cell, backend="compiled")(x)[0]
    used = []
    monkeypatch.setattr(elf, "can_load", lambda: False)
    monkeypatch.setattr(native, "_in_process", lambda *a, plain=native._in_process: used.append(1) or plain(*a))
    monkeypatch.setattr(sys.modules["wavefront.engine.choose"], "_compiled", OrderedDict())  # as if nothing had been compiled yet
    again = Recurrent(deepcopy(cell), backend="compiled")(x)[0]
    assert used
    assert torch.equal(ours, again)
