"""The elementary functions of the generated code, against torch in float64, over the whole range of numbers."""

import ctypes

import llvmlite.ir as ir
import pytest
import torch

from wavefront.engine.backends.compiled.emit import PTR, Code
from wavefront.engine.backends.compiled.native import compile_module, host_bytes
from wavefront.engine.graph import UNARY

NAMES = sorted(UNARY.keys() - {"not", "number"})


def run(name, x):
    """f(x) by generated code; x a multiple of the vector long."""
    double = x.dtype is torch.float64
    module = ir.Module()
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [PTR, PTR]), name="f")
    code = Code(module, function, double, host_bytes() // x.element_size())
    out = torch.empty_like(x)

    def body(i):
        code.store(code.elementary(name, code.load(code.at(function.args[0], i))), code.at(function.args[1], i))

    code.loop(code.i64(0), code.i64(x.numel()), code.width, body)
    code.b.ret_void()
    address, alive = compile_module(str(module), {})
    ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)(address("f"))(x.data_ptr(), out.data_ptr())
    del alive
    return out


def numbers(dtype):
    generator = torch.Generator().manual_seed(0)
    tiny = torch.finfo(dtype).tiny
    special = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        tiny,
        -tiny,
        tiny / 8,
        88.0,
        -88.0,
        -100.0,
        700.0,
        -700.0,
        1e30,
        -1e30,
        float("inf"),
        float("-inf"),
        float("nan"),
    ]
    wide = torch.randn(4000, generator=generator, dtype=torch.float64) * 10 ** (
        torch.rand(4000, generator=generator, dtype=torch.float64) * 12 - 10
    )
    x = torch.cat([torch.tensor(special, dtype=torch.float64), wide, torch.linspace(-30, 30, 6000, dtype=torch.float64)])
    return x[: len(x) // 16 * 16].to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize("name", NAMES)
def test_exact_to_a_few_units_in_the_last_place(name, dtype):
    x = numbers(dtype)
    ours, truth = run(name, x).double(), UNARY[name](x.double())
    assert torch.equal(ours.isnan(), truth.isnan())
    rounded = truth.to(dtype).double()
    finite = truth.isfinite() & rounded.isfinite()
    assert torch.equal(ours[~finite & ~truth.isnan()], rounded[~finite & ~truth.isnan()])
    unit = torch.finfo(dtype).eps * truth.abs().clamp_min(torch.finfo(dtype).tiny)
    assert ((ours - truth).abs()[finite] / unit[finite]).max() <= 4
