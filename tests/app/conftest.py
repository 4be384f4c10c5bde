"""Small data sets and small runs, made once."""

from pathlib import Path

import pytest

from app.small import SMALL, write_reviews
from wavefront.app.fitting import fit


@pytest.fixture(scope="session")
def reviews(tmp_path_factory) -> Path:
    return write_reviews(tmp_path_factory.mktemp("data") / "reviews.csv")


@pytest.fixture(scope="session")
def finished(reviews, tmp_path_factory):
    """A run that nobody changes."""
    return fit(reviews, out=tmp_path_factory.mktemp("runs") / "reviews", set={**SMALL, "epochs": 12, "learning_rate": 0.02}, quiet=True)


@pytest.fixture
def at_step(monkeypatch):
    """at_step(n, action): the action happens in the trainer after its n-th step."""
    from wavefront.learning import Trainer

    original = Trainer._tell

    def arrange(step, action):
        def tell(self, event, **values):
            original(self, event, **values)
            if event == "step" and self.at.step == step:
                action()

        monkeypatch.setattr(Trainer, "_tell", tell)

    return arrange
