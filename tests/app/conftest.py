"""Small data sets and small runs, made once."""

import random
from pathlib import Path

import pytest

from wavefront.app.fitting import fit

SMALL = {"units": 8, "epochs": 2, "word_size": 8}
GOOD, BAD = ["lovely", "great", "fine", "splendid", "warm"], ["awful", "poor", "cold", "broken", "dull"]


def write_reviews(path: Path, rows: int = 300, seed: int = 0, labels=("good", "bad")) -> Path:
    """Text and its label: one word of the text tells it."""
    draw = random.Random(seed)
    fill = ["the", "a", "room", "was", "and", "we", "it", "very", "with", "food", "café"]
    lines = ["text,label"]
    for _ in range(rows):
        good = draw.random() < 0.5
        words = [draw.choice(fill) for _ in range(draw.randint(2, 9))]
        words.insert(draw.randrange(len(words) + 1), draw.choice(GOOD if good else BAD))
        lines.append(f'"{" ".join(words)}",{labels[0] if good else labels[1]}')
    path.write_text("\n".join(lines) + "\n")
    return path


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
