"""Writing native code through LLVM: vectors of one width, loops, loads with a mask, and the elementary functions.

The functions are exact to a few units in the last place in both precisions, over the whole range: tanh keeps its relative accuracy near
0, sigmoid far below 0, and NaN comes out where NaN goes in.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable
from typing import Any

import llvmlite.ir as ir

__all__ = ["Code"]

I64, I32, I16, I1 = (ir.IntType(bits) for bits in (64, 32, 16, 1))
PTR = ir.PointerType()
FUSE = ("contract",)

# e^r, |r| <= 0.347, highest power first: minimax, relative error 2e-9; in double precision Taylor's
EXP = [0.001394123722562802, 0.008375229517496828, 0.04166635134804147, 0.16666414274657773, 0.5000000047466933, 1.0000000379957714, 1.0]
# tanh(x) = x P(x²) / Q(x²), |x| <= 9: minimax, relative error 2e-8; at 9 a float32 is 1
TANH = (
    [1.3354589442042802e-08, 2.0609051723840162e-05, 0.0034955874950287538, 0.13381025687969372, 0.999999979671342],
    [7.776534731296245e-07, 0.00032856328443672757, 0.025876981445150594, 0.46714341355791245, 1.0],
)


class BFloat(ir.Type):
    """Half of a float32, its upper one, which llvmlite does not know."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BFloat)

    def __hash__(self) -> int:
        return hash(BFloat)


class Code:
    """A function being written; arithmetic on vectors of `width` numbers of one dtype."""

    def __init__(self, module: ir.Module, function: ir.Function, double: bool, width: int):
        self.module, self.function, self.double, self.width = module, function, double, width
        self.F = ir.DoubleType() if double else ir.FloatType()
        self.I = I64 if double else I32
        self.V, self.VI = ir.VectorType(self.F, width), ir.VectorType(self.I, width)
        self.VB = ir.VectorType(I1, width)
        self.bytes = 8 if double else 4
        self.b = ir.IRBuilder(function.append_basic_block("entry"))

    # numbers and control

    def i64(self, n: int) -> Any:
        return ir.Constant(I64, n)

    def splat(self, number: float) -> Any:
        return ir.Constant(self.V, [ir.Constant(self.F, self.rounded(number))] * self.width)

    def rounded(self, number: float) -> float:
        if self.double or math.isinf(number) or math.isnan(number):
            return number
        return struct.unpack("f", struct.pack("f", number))[0]

    def isplat(self, n: int) -> Any:
        return ir.Constant(self.VI, [ir.Constant(self.I, n)] * self.width)

    def add(self, *terms: Any) -> Any:
        total = terms[0]
        for term in terms[1:]:
            total = self.b.add(total, term)
        return total

    def mul(self, a: Any, n: int) -> Any:
        return a if n == 1 else self.b.mul(a, self.i64(n))

    def loop(self, low: Any, high: Any, step: int, body: Callable[..., Any], carry: Iterable[Any] = (), down: bool = False) -> list[Any]:
        """for i in range(low, high, step); `body(i, *carry)` gives the next carry. With `down`, from the last to the first (step 1)."""
        b, before = self.b, self.b.block
        head, inside, after = (self.function.append_basic_block(n) for n in ("head", "inside", "after"))
        b.branch(head)
        b.position_at_end(head)
        i = b.phi(I64)
        i.add_incoming(low, before)
        phis = []
        for value in carry:
            phi = b.phi(value.type)
            phi.add_incoming(value, before)
            phis.append(phi)
        b.cbranch(b.icmp_signed("<", i, high), inside, after)
        b.position_at_end(inside)
        place = b.sub(b.sub(b.add(low, high), self.i64(1)), i) if down else i
        new = body(place, *phis) or ()
        following, end = b.add(i, self.i64(step)), b.block
        i.add_incoming(following, end)
        for phi, value in zip(phis, new):
            phi.add_incoming(value, end)
        b.branch(head)
        b.position_at_end(after)
        return phis

    def if_(self, condition: Any, body: Callable[[], None]) -> None:
        inside, after = self.function.append_basic_block("then"), self.function.append_basic_block("after")
        self.b.cbranch(condition, inside, after)
        self.b.position_at_end(inside)
        body()
        self.b.branch(after)
        self.b.position_at_end(after)

    # memory

    def at(self, pointer: Any, index: Any, kind: Any = None) -> Any:
        return self.b.gep(pointer, [index], source_etype=kind or self.F)

    def load_i64(self, pointer: Any, index: Any) -> Any:
        return self.b.load(self.at(pointer, index, I64), typ=I64)

    def load_pointer(self, pointer: Any, index: int) -> Any:
        return self.b.load(self.at(pointer, self.i64(index), I64), typ=PTR)

    def mask(self, lanes: int) -> Any:
        return ir.Constant(self.VB, [ir.Constant(I1, k < lanes) for k in range(self.width)])

    def load(self, pointer: Any, lanes: int | None = None) -> Any:
        if lanes is None or lanes == self.width:
            return self.b.load(pointer, typ=self.V, align=self.bytes)
        f = self.intrinsic("llvm.masked.load", self.V, [PTR, self.VB, self.V], f".{self.suffix}.p0")
        return self.b.call(f, [pointer, self.mask(lanes), self.splat(0.0)])

    def store(self, value: Any, pointer: Any, lanes: int | None = None) -> None:
        if lanes is None or lanes == self.width:
            self.b.store(value, pointer, align=self.bytes)
        else:
            f = self.intrinsic("llvm.masked.store", ir.VoidType(), [self.V, PTR, self.VB], f".{self.suffix}.p0")
            self.b.call(f, [value, pointer, self.mask(lanes)])

    def prefetch(self, pointer: Any, write: bool = False, level: int = 1) -> None:
        """Into the first- or second-level cache."""
        f = self.intrinsic("llvm.prefetch", ir.VoidType(), [PTR, I32, I32, I32], ".p0")
        self.b.call(f, [pointer, *(ir.Constant(I32, n) for n in (int(write), 4 - level, 1))])

    def broadcast(self, scalar: Any) -> Any:
        undefined = ir.Constant(self.V, ir.Undefined)
        v = self.b.insert_element(undefined, scalar, ir.Constant(I32, 0))
        return self.b.shuffle_vector(v, undefined, ir.Constant(ir.VectorType(I32, self.width), [0] * self.width))

    def shuffle(self, a: Any, b: Any, lanes: Iterable[int]) -> Any:
        """The lanes of a, then b, in this order."""
        return self.b.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, self.width), list(lanes)))

    def transposed(self, vectors: list[Any]) -> list[Any]:
        """As many vectors as one has lanes: lane i of vector j becomes lane j of vector i."""
        vectors, step = list(vectors), 1
        while step < self.width:
            low = [k if not k & step else k - step + self.width for k in range(self.width)]
            high = [k + step if not k & step else k + self.width for k in range(self.width)]
            for i in range(self.width):
                if not i & step:
                    a, b = vectors[i], vectors[i + step]
                    vectors[i], vectors[i + step] = self.shuffle(a, b, low), self.shuffle(a, b, high)
            step *= 2
        return vectors

    def load_scalar(self, pointer: Any) -> Any:
        return self.b.load(pointer, typ=self.F)

    def gather(self, pointer: Any, stride: int, lanes: int | None) -> Any:
        v = self.splat(0.0)
        for k in range(self.width if lanes is None else lanes):
            v = self.b.insert_element(v, self.load_scalar(self.at(pointer, self.i64(k * stride))), ir.Constant(I32, k))
        return v

    # vector arithmetic

    @property
    def suffix(self) -> str:
        return f"v{self.width}f{64 if self.double else 32}"

    def intrinsic(self, name: str, result: Any, arguments: list[Any], suffix: str) -> Any:
        full = name + suffix
        for known in self.module.functions:
            if known.name == full:
                return known
        return ir.Function(self.module, ir.FunctionType(result, arguments), name=full)

    def call(self, name: str, *args: Any) -> Any:
        return self.b.call(self.intrinsic(f"llvm.{name}", self.V, [self.V] * len(args), f".{self.suffix}"), args)

    def fma(self, a: Any, b: Any, c: Any) -> Any:
        return self.call("fmuladd", a, b, c)

    def halved(self, v: Any) -> Any:
        """As many bfloat16, rounded to the nearest."""
        return self.b.fptrunc(v, ir.VectorType(BFloat(), self.width))

    def paired(self, a: Any, b: Any) -> Any:
        """a₀ b₀ a₁ b₁ …, of as many bfloat16 as a vector has lanes."""
        order = [k // 2 + k % 2 * self.width for k in range(2 * self.width)]
        return self.b.shuffle_vector(a, b, ir.Constant(ir.VectorType(I32, 2 * self.width), order))

    def widened(self, v: Any) -> Any:
        """bfloat16, taken as whole numbers of 16 bits, as float32."""
        return self.b.bitcast(self.b.shl(self.b.zext(v, self.VI), self.isplat(16)), self.V)

    def store_halved(self, value: Any, pointer: Any, lanes: int) -> None:
        kind = ir.VectorType(BFloat(), self.width)
        f = self.intrinsic("llvm.masked.store", ir.VoidType(), [kind, PTR, self.VB], f".v{self.width}bf16.p0")
        self.b.call(f, [self.halved(value), pointer, self.mask(lanes)])

    def dot(self, a: Any, b: Any, c: Any) -> Any:
        """c + a₀ b₀ + a₁ b₁ in each lane, of which a and b hold two bfloat16."""
        pairs = ir.VectorType(BFloat(), 2 * self.width)
        f = self.intrinsic("llvm.x86.avx512bf16.dpbf16ps.512", self.V, [self.V, pairs, pairs], "")
        return self.b.call(f, [c, self.b.bitcast(a, pairs), self.b.bitcast(b, pairs)])

    def polynomial(self, x: Any, coefficients: list[float]) -> Any:
        """Horner, highest power first."""
        total = self.splat(coefficients[0])
        for c in coefficients[1:]:
            total = self.fma(total, x, self.splat(c))
        return total

    def select(self, condition: Any, a: Any, b: Any) -> Any:
        return self.b.select(condition, a, b)

    def compare(self, sign: str, a: Any, b: Any) -> Any:
        return self.b.fcmp_unordered("!=", a, b) if sign == "!=" else self.b.fcmp_ordered(sign, a, b)

    def elementary(self, kind: str, *x: Any) -> Any:
        """One elementwise operation of the graph."""
        b = self.b
        match kind:
            case "add":
                return b.fadd(*x, flags=FUSE)
            case "sub":
                return b.fsub(*x, flags=FUSE)
            case "mul":
                return b.fmul(*x, flags=FUSE)
            case "div":
                return b.fdiv(*x)
            case "neg":
                return b.fneg(x[0])
            case "abs":
                return self.call("fabs", x[0])
            case "sqrt" | "ceil" | "floor" | "trunc":
                return self.call(kind, x[0])
            case "round":
                return self.call("roundeven", x[0])
            case "rsqrt":
                return b.fdiv(self.splat(1.0), self.call("sqrt", x[0]))
            case "reciprocal":
                return b.fdiv(self.splat(1.0), x[0])
            case "max":
                return self.call("maximum", *x)
            case "min":
                return self.call("minimum", *x)
            case "sign":
                up = self.select(self.compare(">", x[0], self.splat(0.0)), self.splat(1.0), self.splat(0.0))
                return self.select(self.compare("<", x[0], self.splat(0.0)), self.splat(-1.0), up)
            case "number":
                return self.select(x[0], self.splat(1.0), self.splat(0.0))
            case "where":
                return self.select(*x)
            case "eq" | "ne" | "lt" | "le" | "gt" | "ge":
                return self.compare({"eq": "==", "ne": "!=", "lt": "<", "le": "<=", "gt": ">", "ge": ">="}[kind], *x)
            case "and":
                return b.and_(*x)
            case "or":
                return b.or_(*x)
            case "not":
                return b.not_(x[0])
            case _:
                return getattr(self, kind)(*x)

    # e^x = 2^n e^r, |r| <= ln(2)/2

    def _reduced(self, x: Any) -> tuple[Any, Any]:
        """-> n, a whole number, and r."""
        shifted = self.fma(x, self.splat(1 / math.log(2)), self.splat(self._magic))
        n = self.b.fsub(shifted, self.splat(self._magic))
        high = 6.93147180369123816490e-01 if self.double else 0.693359375  # Cody & Waite: n * high is exact
        low = math.log(2) - high if not self.double else 1.90821492927058770002e-10
        return n, self.fma(n, self.splat(-low), self.fma(n, self.splat(-high), x))

    @property
    def _magic(self) -> float:
        """Adding it rounds to the nearest whole number, in the low bits."""
        return 1.5 * 2.0 ** (52 if self.double else 23)

    def _raised(self, r: Any, sign: int = 1) -> Any:
        """e^r or e^-r."""
        coefficients = [1 / math.factorial(k) for k in range(13, -1, -1)] if self.double else EXP
        return self.polynomial(r, [c * sign**k for k, c in zip(range(len(coefficients) - 1, -1, -1), coefficients)])

    def _power(self, n: Any) -> Any:
        """2^n, for n as whole numbers, of normal numbers."""
        bias, mantissa = (1023, 52) if self.double else (127, 23)
        return self.b.bitcast(self.b.shl(self.b.add(n, self.isplat(bias)), self.isplat(mantissa)), self.V)

    def _whole(self, n: Any) -> Any:
        bits = struct.unpack("q" if self.double else "i", struct.pack("d" if self.double else "f", self._magic))[0]
        return self.b.sub(self.b.bitcast(self.b.fadd(n, self.splat(self._magic)), self.VI), self.isplat(bits))

    def _scaled(self, y: Any, n: Any) -> Any:
        """y 2^n, also where that is no normal number."""
        if self.width * self.bytes == 64:
            kind, lanes = ("pd", 8) if self.double else ("ps", 16)
            arguments = [self.V, self.V, self.V, ir.IntType(lanes), I32]
            f = self.intrinsic(f"llvm.x86.avx512.mask.scalef.{kind}.512", self.V, arguments, "")
            return self.b.call(f, [y, n, y, ir.Constant(ir.IntType(lanes), -1), ir.Constant(I32, 4)])
        n = self._whole(n)
        half = self.b.ashr(n, self.isplat(1))  # in two steps: 2^n alone leaves the normal numbers before y 2^n does
        return self.b.fmul(self.b.fmul(y, self._power(half)), self._power(self.b.sub(n, half)))

    def _within(self, x: Any, low: float | None, high: float | None) -> Any:
        if low is not None:
            x = self.select(self.compare("<", x, self.splat(low)), self.splat(low), x)
        if high is not None:
            x = self.select(self.compare(">", x, self.splat(high)), self.splat(high), x)
        return x

    def exp(self, x: Any) -> Any:
        n, r = self._reduced(self._within(x, *((-746.0, 710.0) if self.double else (-104.5, 89.0))))
        return self._scaled(self._raised(r), n)

    def _expm1_below(self, x: Any, low: float) -> Any:
        """e^x - 1 for x up to about 1."""
        n, r = self._reduced(self._within(x, low, None))
        tail = self.polynomial(r, [1 / math.factorial(k) for k in range(13 if self.double else 7, 1, -1)])
        power = self._power(self._whole(n))
        return self.fma(power, self.fma(self.b.fmul(r, r), tail, r), self.b.fsub(power, self.splat(1.0)))

    def expm1(self, x: Any) -> Any:
        small = self._expm1_below(self._within(x, None, 1.0), -60.0)
        return self.select(self.compare(">", x, self.splat(0.7)), self.b.fsub(self.exp(x), self.splat(1.0)), small)

    def tanh(self, x: Any) -> Any:
        if self.double:
            e = self._expm1_below(self.b.fmul(self.call("fabs", x), self.splat(-2.0)), -60.0)
            return self.call("copysign", self.b.fdiv(self.b.fneg(e), self.b.fadd(e, self.splat(2.0))), x)
        x = self._within(x, -9.0, 9.0)
        t = self.b.fmul(x, x)
        y = self.b.fdiv(self.b.fmul(x, self.polynomial(t, TANH[0])), self.polynomial(t, TANH[1]))
        return self._within(y, -1.0, 1.0)

    def sigmoid(self, x: Any) -> Any:
        """1 / (1 + 2^-n e^-r) = 2^n / (2^n + e^-r): nothing in it leaves the range of numbers before the result does."""
        n, r = self._reduced(self._within(x, *((-746.0, 709.0) if self.double else (-104.5, 88.0))))
        power = self._scaled(self.splat(1.0), n)
        return self.b.fdiv(power, self.b.fadd(power, self._raised(r, -1)))

    def log(self, x: Any) -> Any:
        b = self.b
        bias, mantissa, lift = (1023, 52, 54) if self.double else (127, 23, 25)
        tiny = self.compare("<", x, self.splat(2.0 ** (1 - bias)))
        lifted = self.select(tiny, b.fmul(x, self.splat(2.0**lift)), x)
        # the exponent such that the mantissa lies in [sqrt(1/2), sqrt(2))
        root = struct.unpack("q" if self.double else "i", struct.pack("d" if self.double else "f", math.sqrt(0.5)))[0]
        off = b.sub(b.bitcast(lifted, self.VI), self.isplat(root))
        n = b.ashr(off, self.isplat(mantissa))
        m = b.bitcast(b.sub(b.bitcast(lifted, self.VI), b.shl(n, self.isplat(mantissa))), self.V)
        n = b.sub(n, self.select(tiny, self.isplat(lift), self.isplat(0)))
        e = b.sitofp(n, self.V)
        s = b.fdiv(b.fsub(m, self.splat(1.0)), b.fadd(m, self.splat(1.0)))
        s2 = b.fmul(s, s)
        series = self.polynomial(s2, [2 / (2 * k + 1) for k in range(11 if self.double else 5, 0, -1)])  # 2 artanh(s) - 2 s, over s^3
        high = 6.93147180369123816490e-01 if self.double else 0.693359375
        low = math.log(2) - high if not self.double else 1.90821492927058770002e-10
        tail = self.fma(e, self.splat(low), b.fmul(b.fmul(s, s2), series))
        y = self.fma(e, self.splat(high), b.fadd(b.fmul(s, self.splat(2.0)), tail))
        inf = float("inf")
        y = self.select(self.compare("==", x, self.splat(inf)), x, y)
        y = self.select(self.compare("==", x, self.splat(0.0)), self.splat(-inf), y)
        return self.select(b.fcmp_unordered("<", x, self.splat(0.0)), self.splat(float("nan")), y)

    def log1p(self, x: Any) -> Any:
        b = self.b
        u = b.fadd(x, self.splat(1.0))
        lost = b.fdiv(b.fsub(x, b.fsub(u, self.splat(1.0))), u)
        y = b.fadd(self.log(u), lost)
        y = self.select(self.compare("==", x, self.splat(-1.0)), self.splat(-float("inf")), y)
        return self.select(self.compare("==", x, self.splat(float("inf"))), x, y)
