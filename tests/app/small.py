"""A small data set and small sizes."""

import random
from pathlib import Path

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
