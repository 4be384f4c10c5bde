"""A checkpoint is there whole or not at all: killed at every step of a save, a full disk, flipped bits."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from wavefront.errors import RunError
from wavefront.learning import Checkpoint, Checkpoints, write_whole


def checkpoint(n):
    return Checkpoint({"w": torch.full((50,), float(n))}, {"n": n, "x": 0.1 + n})


KILLED_AT_EVERY_STEP = """
import builtins, os, sys
from pathlib import Path
from wavefront.learning import Checkpoints
from test_checkpoint import checkpoint

def killed_at(step):  # dies like by kill -9 at the step-th call to the system
    calls = [0]
    def dies(name, call):
        def counted(*arguments, **options):
            calls[0] += 1
            if calls[0] == step:
                if name == "write":
                    call(arguments[0][: len(arguments[0]) // 2]); file.flush()
                os._exit(9)
            return call(*arguments, **options)
        return counted
    for name in ("fsync", "replace", "open", "unlink"):
        setattr(os, name, dies(name, getattr(os, name)))
    Path.unlink = dies("unlink", Path.unlink)
    opened = builtins.open
    def open_dying(path, mode="r", **options):
        global file
        file = opened(path, mode, **options)
        if "w" not in mode:
            return file
        class Writer:
            def __enter__(self): return self
            def __exit__(self, *error): file.close()
            write = staticmethod(dies("write", file.write)); flush = staticmethod(dies("flush", file.flush)); fileno = file.fileno
        return Writer()
    builtins.open = open_dying

folder, seen = Path(sys.argv[1]), []
for step in range(1, 100):
    checkpoints = Checkpoints(folder / str(step))
    for n in (1, 2, 3):
        checkpoints.save(checkpoint(n))
    child = os.fork()
    if not child:
        killed_at(step)
        checkpoints.save(checkpoint(4))
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    loaded = checkpoints.latest(warn=lambda message: sys.exit(f"step {step}: {message}"))
    n = loaded.state["n"]
    assert (loaded.tensors["w"] == n).all() and n in (3, 4), (step, n)
    checkpoints.save(checkpoint(5))
    assert checkpoints.latest().state["n"] == 5
    assert not list(checkpoints.folder.glob(".*.tmp")), step
    assert len(list(checkpoints.folder.iterdir())) <= 4
    seen.append(n)
    if status == 0:
        break
print(seen)
"""


def test_killed_at_any_moment_of_a_save(tmp_path):
    """A child process dies at the first, second, ... call to the system within a save; the newest whole checkpoint loads each time."""
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    done = subprocess.run(
        [sys.executable, "-c", KILLED_AT_EVERY_STEP, str(tmp_path)], env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    seen = json.loads(done.stdout)
    assert len(seen) > 12, "so many calls there are at least"
    assert seen[0] == 3
    assert seen[-1] == 4
    assert sorted(seen) == seen, "before the manifest is in its place the one before, after that the new one"


class FullDisk:
    """Stands for a call that fails the n-th time that it is made."""

    def __init__(self, call, n):
        self.call, self.left = call, n

    def __call__(self, *arguments):
        self.left -= 1
        if self.left == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        return self.call(*arguments)


@pytest.mark.parametrize("failing", ["open", "fsync", "replace"])
@pytest.mark.parametrize("n", [1, 2])
def test_a_full_disk_leaves_the_old_one_whole(tmp_path, monkeypatch, failing, n):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(checkpoint(1))
    if failing == "open":
        monkeypatch.setattr("wavefront.learning.files.open", FullDisk(open, n), raising=False)
    else:
        monkeypatch.setattr(os, failing, FullDisk(getattr(os, failing), n))
    with pytest.raises(RunError, match=r"cannot write .*: No space left on device.*Free some space"):
        checkpoints.save(checkpoint(2))
    monkeypatch.undo()
    assert checkpoints.latest().state["n"] == 1
    assert not list(tmp_path.glob(".*.tmp"))
    checkpoints.save(checkpoint(3))
    assert checkpoints.latest().state["n"] == 3


def test_a_disk_that_fills_up_in_the_middle_of_a_file(tmp_path):
    """A real limit on the size of files: the write itself fails, after some of the bytes."""
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(checkpoint(1))
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limit[1]))
    try:
        with pytest.raises(RunError, match=r"cannot write .*000002\.safetensors: File too large"):
            checkpoints.save(Checkpoint({"w": torch.zeros(100_000)}, {}))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, before)
    assert checkpoints.latest().state["n"] == 1
    assert not list(tmp_path.glob(".*.tmp"))


def damage(path, how):
    content = bytearray(path.read_bytes())
    if how == "truncated":
        content = content[: len(content) // 2]
    elif how == "empty":
        content = bytearray()
    else:
        content[int(len(content) * float(how))] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["truncated", "empty", "0.1", "0.5", "0.9"])
@pytest.mark.parametrize("ending", [".safetensors", ".json"])
def test_a_damaged_one_is_named_and_the_one_before_is_taken(tmp_path, how, ending):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(checkpoint(1))
    checkpoints.save(checkpoint(2))
    damage(tmp_path / f"000002{ending}", how)
    warnings = []
    assert checkpoints.latest(warnings.append).state["n"] == 1
    assert len(warnings) == 1
    assert f"000002{ending}" in warnings[0]
    damage(tmp_path / f"000001{ending}", how)
    with pytest.raises(RunError, match=r"(?s)no checkpoint is whole:.*000002.*000001.*--overwrite"):
        checkpoints.latest()


def test_the_one_that_was_resumed_from_outlives_the_damaged_one(tmp_path):
    for n in (1, 2):
        Checkpoints(tmp_path).save(checkpoint(n))
    damage(tmp_path / "000002.safetensors", "truncated")
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest().state["n"] == 1
    checkpoints.save(checkpoint(3))
    assert checkpoints.numbers() == [1, 3]
    damage(tmp_path / "000003.safetensors", "truncated")
    assert Checkpoints(tmp_path).latest().state["n"] == 1


@pytest.mark.parametrize("content", ["[]", "[1]", "3", '"x"', "null", "{}"])
def test_a_manifest_that_is_other_json_is_damaged(tmp_path, content):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(checkpoint(1))
    (tmp_path / "000001.json").write_text(content)
    with pytest.raises(RunError, match=r"000001\.json is damaged"):
        checkpoints.latest()


def test_a_missing_tensor_file_is_named(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(checkpoint(1))
    (tmp_path / "000001.safetensors").unlink()
    with pytest.raises(RunError, match=r"000001\.safetensors cannot be read"):
        checkpoints.latest()


def test_nothing_saved_is_none_and_a_folder_that_cannot_be_made_an_error(tmp_path):
    assert Checkpoints(tmp_path / "nothing").latest() is None
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match="cannot make the folder"):
        Checkpoints(tmp_path / "file" / "below").save(checkpoint(1))


def test_every_tensor_comes_back_to_the_bit(tmp_path):
    tensors = {
        "random": torch.get_rng_state(),
        "double": torch.randn(3, 4, dtype=torch.float64).t(),
        "scalar": torch.tensor(7),
        "half": torch.randn(2).bfloat16(),
        "empty": torch.zeros(0, 3),
    }
    tensors["shared"] = tensors["double"][:2]
    state = {"a": 0.1 + 0.2, "b": [1e-300, None, "ü"], "c": {"d": 2**60}}
    Checkpoints(tmp_path).save(Checkpoint(tensors, state))
    loaded = Checkpoints(tmp_path).latest()
    assert loaded.state == state
    assert loaded.tensors.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert loaded.tensors[name].dtype == tensor.dtype
        assert torch.equal(loaded.tensors[name], tensor)


def test_a_file_that_is_replaced_is_the_old_one_until_it_is_the_new_one(tmp_path, monkeypatch):
    path = tmp_path / "metrics.json"
    write_whole(path, "old")
    monkeypatch.setattr(os, "replace", FullDisk(os.replace, 1))
    with pytest.raises(RunError, match="What was there before is whole"):
        write_whole(path, "new and longer")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    write_whole(path, "new and longer")
    assert path.read_text() == "new and longer"
