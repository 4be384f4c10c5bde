"""`wavefront bench`: who is measured, what is counted, and that a mistake is said before the first measurement."""

import json
import time
from dataclasses import dataclass

import pytest
import torch
from typer.testing import CliRunner

from wavefront.app import bench
from wavefront.app.bench.case import Size
from wavefront.app.bench.measure import _arithmetic
from wavefront.app.bench.rivals import contenders
from wavefront.app.cli import app
from wavefront.errors import SettingsError

TINY = Size(2, 5, 3, 4)
MINE = """
import torch, wavefront

class Mine(wavefront.Cell):
    def __init__(self, inputs, units):
        super().__init__(inputs, state=units)
        self.U, self.W = torch.nn.Linear(inputs, units), torch.nn.Linear(units, units)

    def step(self, h, x):
        h = (self.U(x) + self.W(h)).tanh()
        return h, h
"""


def run(*arguments):
    return CliRunner().invoke(app, ["bench", "--seconds", "0", *arguments])


def test_a_cell_is_measured_beside_everybody_who_has_it():
    lstm, mgu = (list(bench.bench([bench.Case(cell, TINY)], runs=2, seconds=0)) for cell in ("lstm", "mgu"))
    assert [r.what for r in lstm] == ["train", "infer", "step"]
    for r in lstm:
        assert {"loop", "torch.nn"} <= set(r.faster)
        assert r.faster["torch.nn"] == r.fastest["torch.nn"] / r.fastest["wavefront"]
        assert all(0 < r.fastest[name] <= r.median[name] for name in r.fastest)
        assert len(r.fastest) == len(r.faster) + 2, "Wavefront, the others, and the product"
    assert "torch.nn" not in mgu[0].faster
    assert {"loop", "torchrecurrent"} <= set(mgu[0].faster)


def test_what_is_short_is_run_until_the_seconds_are_spent_and_only_beside_those_named():
    begun = time.perf_counter()
    (infer,) = bench.bench([bench.Case("elman", TINY)], ["infer"], runs=1, beside=["loop"], seconds=0.3)
    assert time.perf_counter() - begun > 0.3
    assert list(infer.faster) == ["loop"]


def test_in_mixed_precision_wavefront_alone_is():
    size = Size(32, 8, 32, 64)
    full, low = (contenders(bench.Case("lstm", size, precision), ["torch.nn"]) for precision in bench.PRECISIONS)
    exact, near = (rivals["wavefront"]["infer"]()[0] for rivals in (full, low))
    assert 0 < (near - exact).abs().max() < 0.02
    assert torch.equal(full["torch.nn"]["infer"]()[0], low["torch.nn"]["infer"]()[0])
    (measured,) = bench.bench([bench.Case("lstm", TINY, "bf16")], ["train"], runs=1, beside=["loop"], seconds=0)
    assert "train bf16" in bench.table([measured])
    assert run("lstm", "--precision", "half").exit_code == 2


def test_the_arithmetic_is_what_an_lstm_needs():
    """Forward x U and h W; backward the gradients of both weights and of the state, none of the input."""
    B, T, D, H = TINY
    forward, backward, columns = _arithmetic(bench.Case("lstm", TINY))
    assert forward == 2 * B * T * 4 * H * (D + H)
    assert backward == 2 * B * T * 4 * H * (D + 2 * H)
    assert columns == 4 * H


def test_the_command_prints_a_table_json_and_a_picture(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    picture = tmp_path / "speed.png"
    done = run("gru", f"{file}:Mine", "--size", "2,5,3,4", "--runs", "1", "--plot", str(picture))
    assert done.exit_code == 0, done.output
    table = done.stdout.splitlines()
    assert table[0].split()[:4] == ["cell", "B,T,D,H", "ms", "x"]
    assert [line.split()[0] for line in table[1:]] == ["gru"] * 3 + ["Mine"] * 3
    assert picture.read_bytes().startswith(b"\x89PNG")
    done = run("elman", "--size", "2,5,3,4", "--runs", "1", "--what", "infer", "--json", "--memory", "--quiet")
    found = json.loads(done.stdout)
    assert found["results"][0]["cell"] == "elman"
    peaks = found["peak_memory"][0]["MB"]
    assert peaks["imports"] < peaks["torch.nn"]
    assert peaks["imports"] < peaks["wavefront"]


@dataclass
class Wrong:
    arguments: list[str]
    said: str


@pytest.mark.parametrize(
    "wrong",
    [
        Wrong(["gruu"], "Did you mean 'gru'"),
        Wrong(["--size", "2,3"], "B,T,D,H"),
        Wrong(["--what", "trian"], "train, infer, step"),
        Wrong(["--beside", "tensorflow"], "torch.nn, loop"),
        Wrong(["no/file.py:Mine"], "there is no file"),
    ],
    ids=lambda wrong: wrong.said,
)
def test_mistakes_are_said_at_once(wrong):
    done = run(*wrong.arguments)
    assert done.exit_code == 2
    assert wrong.said in done.stderr


def test_a_file_without_that_cell_is_refused(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(MINE)
    with pytest.raises(SettingsError, match="has no cell 'Yours'"):
        bench.find_cell(f"{file}:Yours")
