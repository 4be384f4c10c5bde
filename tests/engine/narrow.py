"""Run by test_memory.py in a process of its own: cells in vectors of so many bytes, in buffers that end where a page begins that nobody may touch.

python narrow.py BYTES CPU
"""

import ctypes
import mmap
import os
import sys

import torch
from torch.utils import _pytree as pytree

alive = []


def guarded(like, *shape, dtype=None):
    """`new_empty`, with a page behind it that cannot be read or written."""
    shape = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
    dtype = dtype or like.dtype
    size = torch.Size(shape).numel() * dtype.itemsize
    pages = -(-size // mmap.PAGESIZE) + 1
    memory = mmap.mmap(-1, pages * mmap.PAGESIZE)
    whole, end = torch.frombuffer(memory, dtype=torch.uint8), (pages - 1) * mmap.PAGESIZE
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(whole.data_ptr() + end), mmap.PAGESIZE, 0) == 0
    alive.append(memory)
    return whole[end - size : end].view(dtype).view(shape) if size else like.new_zeros(shape, dtype=dtype)


def narrow(width, cpu):
    """Code for another processor, in vectors of `width` bytes: before anything else takes the width from there."""
    import llvmlite.binding as llvm

    from wavefront.engine.backends.compiled import native

    def machine(**options):
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        return llvm.Target.from_default_triple().create_target_machine(cpu=cpu, features="", opt=3, **options)

    os.environ["WAVEFRONT_CACHE"] = ""  # what is made for another processor is not for this one
    native._machine, native.host_bytes = machine, lambda: width


def main(width, cpu):
    if cpu != "host":
        narrow(width, cpu)
    from wavefront import Recurrent, cells
    from wavefront.engine.backends.compiled import run

    torch.Tensor.new_empty = guarded
    torch.manual_seed(0)
    cases = (
        (cells.LSTM, 7, torch.float32),
        (cells.LSTM, 33, torch.float64),
        (cells.GRU, 33, torch.float32),
        (cells.GRU, 1, torch.float64),
        (cells.ChildSumTreeLSTM, 33, torch.float32),
        (lambda d, h: cells.LSTM(d, h, layer_norm=True, peepholes=True), 7, torch.float64),
    )
    for make, units, dtype in cases:
        net = Recurrent(make(3, units)).to(dtype)
        x = torch.randn(5, 6, 3, dtype=dtype, requires_grad=True)
        found = {}
        for net.backend in ("compiled", "reference"):
            outputs = net(x, lengths=[6, 1, 0, 4, 6])[0]
            inferred = []
            with torch.no_grad():
                for run.ROWS in (0, 1000):  # products with inputs inside the loop, and before it
                    inferred.append(net(x, lengths=[6, 1, 0, 4, 6])[0])
            found[net.backend] = [outputs, *inferred, *torch.autograd.grad(outputs.square().sum(), [x, *net.parameters()])]
        if net.cell.slots == 1:
            steps(net)
        for ours, theirs in zip(*found.values()):
            near = 1e-10 if dtype is torch.float64 else 2e-4
            assert ((ours - theirs).abs() <= near * (1 + theirs.abs().max())).all(), (width, units, dtype)
    if cpu == "host":
        halved(Recurrent, cells, run)


def steps(net):
    """One step as one native call, its input, state and weights right before such a page, too."""
    from wavefront.engine import runs, single

    single._empty_strided_cpu = lambda shape, strides, dtype: guarded(torch.empty(0), shape, dtype=dtype)
    net.backend = "auto"
    for p in net.parameters():
        p.data = guarded(p, p.shape).copy_(p.data)
    for rows in (1, 3):
        like = next(net.parameters())
        x, state = guarded(like, rows, 3).normal_(), pytree.tree_map(lambda t: guarded(t, t.shape).normal_(), net.cell.initial_state(rows))
        with torch.no_grad():
            before = runs["single"]
            ours, theirs = net.step(state, x), net.cell.step(state, x)
            assert runs["single"] == before + 1
        for a, b in zip(pytree.tree_leaves(ours), pytree.tree_leaves(theirs), strict=True):
            assert torch.allclose(a, b, atol=1e-5), (net, rows)


def halved(Recurrent, cells, run):
    """In bfloat16, where this machine has instructions for it; with sizes whose rows are in pairs and without."""
    for make, units in ((cells.LSTM, 33), (cells.GRU, 22), (cells.Elman, 7)):
        net = Recurrent(make(3, units))
        x = torch.randn(5, 6, 3)
        for run.ROWS in (0, 1000):
            found = []
            for net.precision in ("float32", "bf16"):
                outputs = net(x, lengths=[6, 1, 0, 4, 6])[0]
                found.append([outputs, *torch.autograd.grad(outputs.square().sum(), list(net.parameters()))])
            for full, low in zip(*found):
                assert (full - low).norm() <= 0.02 * full.norm(), (units, run.ROWS)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
