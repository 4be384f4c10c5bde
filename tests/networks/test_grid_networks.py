"""Recurrence over images from four corners, and in four sweeps."""

import pytest
import torch
from torch import nn

from wavefront import FourCorners, FourSweeps, Recurrent, ShapeError, cells


def four(make, *sizes):
    return [make(*sizes) for _ in range(4)]


def test_every_output_of_four_corners_has_seen_the_whole_image():
    torch.manual_seed(0)
    net = FourCorners(*four(cells.MDLSTM, 2, 3)).double()
    x = torch.randn(1, 3, 4, 2, dtype=torch.double, requires_grad=True)
    outputs, _ = net(x)
    for i in range(3):
        for j in range(4):
            (gradient,) = torch.autograd.grad(outputs[0, i, j].sum(), x, retain_graph=True)
            assert (gradient.abs().sum(-1) > 0).all()


@pytest.mark.parametrize("merge", ["concat", "sum", "mean"])
def test_turning_the_image_and_the_corners_turns_the_outputs(merge):
    torch.manual_seed(0)
    corners = four(cells.MDGRU, 2, 3)
    net = FourCorners(*corners, merge=merge).double()
    mirrored = FourCorners(corners[1], corners[0], corners[3], corners[2], merge=merge)
    x = torch.randn(2, 3, 4, 2, dtype=torch.double)
    a, b = net(x)[0], mirrored(x.flip(2))[0].flip(2)
    assert a.shape[-1] == net.outputs
    if merge == "concat":
        p, q, r, s = b.chunk(4, -1)
        b = torch.cat([q, p, s, r], -1)
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


def test_sizes_are_one_image_at_a_time():
    torch.manual_seed(0)
    net = FourCorners(*four(cells.StableMDLSTM, 2, 3)).double()
    x = torch.randn(3, 4, 5, 2, dtype=torch.double)
    sizes = [(4, 5), (2, 3), (1, 5)]
    for row, (i, j) in enumerate(sizes):
        x[row, i:], x[row, :, j:] = float("nan"), float("nan")
    outputs, states = net(x, torch.tensor(sizes))
    for row, (i, j) in enumerate(sizes):
        alone, last = net(x[row : row + 1, :i, :j])
        torch.testing.assert_close(outputs[row, :i, :j], alone[0], rtol=1e-12, atol=1e-13)
        assert (outputs[row, i:] == 0).all()
        for mine, theirs in zip(states, last):
            torch.testing.assert_close(mine.c[row : row + 1], theirs.c, rtol=1e-12, atol=1e-13)


def test_four_sweeps_are_columns_then_rows():
    torch.manual_seed(0)
    down, up = cells.GRU(8, 3).double(), cells.LSTM(8, 2).double()
    right, left = cells.Elman(5, 4).double(), cells.GRU(5, 3).double()
    net = FourSweeps(down, up, right, left, patch=(2, 1))
    x = torch.randn(2, 6, 3, 4, dtype=torch.double)
    v = torch.zeros(2, 3, 3, 5, dtype=torch.double)
    for b in range(2):
        for j in range(3):
            column = torch.stack([x[b, 2 * i : 2 * i + 2, j].reshape(-1) for i in range(3)])[None]
            v[b, :, j] = torch.cat([Recurrent(down)(column)[0], Recurrent(up, reverse=True)(column)[0]], -1)[0]
    want = torch.zeros(2, 3, 3, 7, dtype=torch.double)
    for b in range(2):
        for i in range(3):
            want[b, i] = torch.cat([Recurrent(right)(v[b, i][None])[0], Recurrent(left, reverse=True)(v[b, i][None])[0]], -1)[0]
    torch.testing.assert_close(net(x), want, rtol=1e-12, atol=1e-13)
    assert net.outputs == 7


def test_a_convolution_may_come_before_the_sweeps():
    convolution = nn.Conv2d(1, 3, 3, padding=1)
    net = FourSweeps(*four(cells.GRU, 3, 2)[:2], *four(cells.GRU, 4, 2)[:2], before=convolution)
    x = torch.randn(2, 5, 6, 1)
    plain = FourSweeps(net.columns.ahead.cell, net.columns.back.cell, net.rows.ahead.cell, net.rows.back.cell)
    features = convolution(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    torch.testing.assert_close(net(x), plain(features))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: FourCorners(*[cells.MDRNN(2, 3)] * 4), "four cells, one for each corner; got 1"),
        (lambda: FourCorners(*four(cells.MDRNN, 2, 3)[:3], cells.MDRNN(2, 4), merge="sum"), "needs outputs of one size"),
        (lambda: FourCorners(*four(cells.MDRNN, 2, 3))(torch.zeros(2, 3, 2)), r"expects x of \[B, height, width, 2\], got \[2, 3, 2\]"),
        (lambda: FourSweeps(*four(cells.GRU, 2, 3)), "the rows take the 6 outputs of the columns"),
        (
            lambda: FourSweeps(*four(cells.GRU, 4, 2)[:2], *four(cells.GRU, 4, 2)[:2], patch=(2, 2))(torch.zeros(1, 4, 5, 1)),
            r"into patches of 2 x 2 with 4 numbers in each; got \[1, 4, 5, 1\]",
        ),
    ],
)
def test_what_does_not_fit_is_named(make, text):
    with pytest.raises((ShapeError, ValueError), match=text):
        make()
