"""Where the compiled loops read and write: blocks of fronts, what lies over what, packed weights, narrow vectors, guarded buffers, other machines."""

import platform
import subprocess
import sys
from pathlib import Path

import llvmlite.binding as llvm
import pytest
import torch
from torch.utils import _pytree as pytree

from engine.test_compiled import close, results
from wavefront import Recurrent, cells
from wavefront.engine.backends.compiled import run
from wavefront.engine.backends.compiled.packing import Pack, Packing
from wavefront.engine.backends.compiled.program import Program
from wavefront.engine.choose import plan_of
from wavefront.engine.explain import _example
from wavefront.engine.graph import Graph


def program_of(cell):
    plan = plan_of(_example(cell)).plan
    made = Program(plan, tuple(True for _ in plan.into), double=False)
    made.forward, made.backward  # noqa: B018
    return made


@pytest.mark.parametrize("make", [cells.LSTM, cells.GRU, cells.Elman, cells.MUT2, cells.ChildSumTreeLSTM], ids=lambda c: c.__name__)
@pytest.mark.parametrize("options", [{}, {"lengths": [9, 2, 0, 5]}], ids=["whole", "ragged"])
def test_sums_in_blocks_of_any_size(monkeypatch, make, options):
    net, x = Recurrent(make(3, 5)).double(), torch.randn(4, 9, 3, dtype=torch.float64, requires_grad=True)
    truth = results(net, "reference", x, **options)
    for bytes_ in (1, 1000, 1 << 24):
        monkeypatch.setattr(run, "BLOCK", bytes_)
        monkeypatch.setattr(run, "READ_ONCE", bytes_)
        close(results(net, "compiled", x, **options), truth)
        with torch.no_grad():
            close([net(x, **options)[0]], truth[:1])


@pytest.mark.parametrize("make", [cells.LSTM, cells.GRU, cells.Elman], ids=lambda c: c.__name__)
def test_a_graph_that_is_kept_gives_its_gradients_again(make):
    """Gradients are written over what is stored, but not while it may be asked for another time."""
    net, x = Recurrent(make(3, 20), backend="compiled"), torch.randn(4, 9, 3, requires_grad=True)
    wanted = [x, *net.parameters()]
    loss = net(x)[0].square().sum()
    first, second = (torch.autograd.grad(loss, wanted, retain_graph=True) for _ in range(2))
    last = torch.autograd.grad(loss, wanted)
    assert all(torch.equal(a, b) and torch.equal(a, c) for a, b, c in zip(first, second, last))


def test_gates_lie_over_their_sums_and_gradients_over_the_gates():
    made = program_of(cells.LSTM(3, 20))
    (sums,) = made.lifted
    assert sorted(home.start for home in made.homes.values()) == [0, 20, 40, 60]
    assert {home.of for home in made.homes.values()} == {sums}
    assert list(made.over) == [sums]


@pytest.mark.parametrize("name", ["LSTM", "GRU", "GRUBefore", "Elman", "MUT2", "MGU"])
@pytest.mark.parametrize("options", [{}, {"lengths": [9, 2, 0, 5, 9, 9, 9, 1, 3]}], ids=["whole", "ragged"])
def test_input_products_inside_the_loop(monkeypatch, name, options):
    monkeypatch.setattr(run, "ROWS", 0)
    torch.manual_seed(0)
    cell = getattr(cells, name)(5, 37).double()
    x = torch.randn(9, 9, 5, dtype=torch.float64)
    found = []
    for backend in ("compiled", "reference"):
        net = Recurrent(cell, backend=backend)
        with torch.no_grad():
            outputs, end = net(x, **options)
        again = net(x, **options)[0]
        found.append([outputs, *pytree.tree_leaves(end), again, *torch.autograd.grad(again.square().sum(), list(cell.parameters()))])
    close(*found, 1e-12)


def test_nothing_lies_over_what_the_backward_pass_multiplies():
    """r h is the operand of a product, whose weight's gradient needs it after the loop."""
    made = program_of(cells.GRUBefore(3, 20))
    operands = {c.a for c in made.contributions}
    assert not operands & set(made.homes)
    assert operands & set(made.keeps)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("rows", "columns", "panels"), [(64, 64, 1), (5, 7, 2), (33, 40, 3), (1, 1, 1)])
@pytest.mark.parametrize("lie", ["along", "across", "with gaps"])
def test_weights_are_packed_as_they_are_read(dtype, rows, columns, panels, lie):
    width = 3 * columns
    w = {
        "along": lambda: torch.randn(width, rows, dtype=dtype).t(),
        "across": lambda: torch.randn(rows, width, dtype=dtype),
        "with gaps": lambda: torch.randn(rows, 2 * width, dtype=dtype)[:, ::2],
    }[lie]()
    value = Graph().input("w", (rows, width), False)
    pack = Pack(((value, 0), (value, 2 * columns)), columns, rows, panels)
    packing = Packing([pack, pack], dtype is torch.float64)
    lanes, blocks = packing.width, []
    count = -(-columns // lanes)
    windows = torch.zeros(rows, 2, count * lanes, dtype=dtype)
    windows[:, 0, :columns], windows[:, 1, :columns] = w[:, :columns], w[:, 2 * columns :]
    for first in range(0, count, panels):
        together = panels if first + panels <= count else count - first
        blocks.append(windows[:, :, first * lanes : (first + together) * lanes].flatten())
    assert torch.equal(packing.run([w], w, 2), torch.cat(blocks + blocks))


NARROW = [(0, "host")] + ([(32, "haswell"), (16, "x86-64")] if platform.machine() == "x86_64" else [])


@pytest.mark.skipif(sys.platform != "linux", reason="guards pages as Linux does")
@pytest.mark.parametrize(("width", "cpu"), NARROW, ids=[cpu for _, cpu in NARROW])
def test_narrower_vectors_and_nothing_beside_the_buffers(width, cpu):
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("narrow.py"), str(width), cpu], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.parametrize(("triple", "cpu"), [("aarch64-unknown-linux-gnu", "neoverse-n1"), ("arm64-apple-macosx", "apple-m1")])
def test_code_for_other_machines(monkeypatch, triple, cpu):
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    texts = []

    def only_for_there(text, symbols):
        parsed = llvm.parse_assembly(text)
        parsed.verify()
        texts.append(llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, opt=3).emit_assembly(parsed))
        return lambda name: 1, None

    from wavefront.engine.backends.compiled import kernel, threads

    monkeypatch.setattr(kernel, "host_bytes", lambda: 16)
    plan = plan_of(_example(cells.LSTM(3, 6))).plan
    monkeypatch.setattr(threads, "compile_module", only_for_there)
    made = Program(plan, tuple(True for _ in plan.into), double=False)
    made.forward, made.backward  # noqa: B018
    assert len(texts) == 2
    assert all("fmla" in text for text in texts)  # vectors, fused
