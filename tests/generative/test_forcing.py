"""Coins and schedules; and, slowly, that what they are for does happen."""

import re
import runpy
import sys
from pathlib import Path

import pytest
import torch

from wavefront.errors import SettingsError
from wavefront.generative import SCHEDULES, coins, every

EXAMPLE = Path(__file__).parents[2] / "examples" / "exposure_bias.py"


def test_coins_are_thrown_per_step_or_per_sequence():
    torch.manual_seed(0)
    steps, sequences = coins(2000, 10, p=0.3), coins(2000, 10, p=0.3, per="sequence")
    for thrown in (steps, sequences):
        assert thrown.mean().item() == pytest.approx(0.3, abs=0.03)
        assert set(thrown.unique().tolist()) == {0.0, 1.0}
    assert (sequences == sequences[:, :1]).all()
    assert not (steps == steps[:, :1]).all()
    with pytest.raises(SettingsError, match=r"lies in 0\.\.1, got 1.5"):
        coins(1, 1, p=1.5)
    with pytest.raises(SettingsError, match='per "step" or per "sequence"'):
        coins(1, 1, p=0.5, per="batch")
    with pytest.raises(SettingsError, match="k at least 1"):
        every(0, 1, 1)


def test_schedules_fall_from_the_truth_to_none_of_it():
    """[Bengio et al. 2015, section 2.3]"""
    assert [SCHEDULES["linear"](i, 10.0) for i in (0, 5, 10, 20)] == [1.0, 0.5, 0.0, 0.0]
    assert [SCHEDULES["exponential"](i, 10.0) for i in (0, 10, 20)] == [1.0, 0.5, 0.25]
    inverse = [SCHEDULES["inverse_sigmoid"](i, 10.0) for i in (0, 10 * 2.302585092994046, 1e9)]
    assert inverse == pytest.approx([10 / 11, 0.5, 0.0])


@pytest.mark.learning
def test_teacher_forcing_alone_fails_where_a_network_that_reads_itself_does_not(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", [str(EXAMPLE), "--updates", "250"])
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    lines = capsys.readouterr().out.splitlines()[1:]
    near, far = zip(*([float(n) for n in re.findall(r"rmse (\S+)", line)] for line in lines))
    assert near[0] == min(near)  # one step ahead nothing is better than teacher forcing
    assert far[0] > 0.9  # on its own it is no better than saying nothing, which is 1
    assert max(far[1:]) < 0.85
