"""Figures of `translate` and `transcribe` on public data, each from `wavefront fit` with the options named here.

    python benchmarks/pairs.py [--only cmudict fsdd] [--seed 1] [--data ../shared/data] [--runs runs/pairs]
                               [--results benchmarks/results/pairs.json]

cmudict      spelling to phonemes, by attention; cmudict-transducer; cmudict-ctc: by CTC over letters that are three steps each
sigmorphon   spelling to IPA in five languages, one setting for all
fsdd         strings of 3 to 7 spoken digits, recordings joined, transcribed by CTC; the validation strings are made of recordings 5-9 of each digit
             and speaker, those of training of 10-49, those of the test of the test recordings
multi30k     English to German, by two networks that write together; multi30k-summary: one,
             without attention, the source in one vector. BLEU by the length of the source

A run that was finished is not run again; one that was interrupted is carried on. Validation data choose the weights; the test split is scored once,
at the end of `fit`, by beam search. Each result holds its command, seed, date, machine, seconds and metrics.
"""

from __future__ import annotations

import argparse
import gzip
import shlex
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fitted import fitted
from record import keep, read

# data/SOURCES.md: share of words that the official baseline, an ensemble of transducers, gets wrong on the test set
BASELINE = {"eng_us": 0.4194, "fre": 0.0850, "hun": 0.0180, "kor": 0.1630, "hbs_latn": 0.3210}
WORDS = {"eng_us": 4168, "fre": 1000, "hun": 1000, "kor": 1000, "hbs_latn": 1000}
PAIRS = {"eng_us": 33344, "fre": 8000, "hun": 8000, "kor": 8000, "hbs_latn": 8000}  # to learn from


class Figure(NamedTuple):
    data: str  # under --data; made of it where `made` says how
    options: str
    metric: str
    wanted: float | None = None


G2P = (
    "--task transcribe --column source=column1 --column target=column2 --set writer=transducer --precision bf16 --set units=256"
    " --set dropout=0.5 --set members=3 --set num_beams=5 --set batch_size=64 --set patience=0"
)


def updates_of(pairs: int, updates: int = 3000, batch: int = 64) -> str:
    """As many updates whatever the number of pairs, or 16 epochs."""
    return f"--epochs {max(16, round(updates * batch / pairs))}"


FIGURES = {
    "fsdd": Figure("fsdd", "--task transcribe --minutes 8", "symbol_error", 0.03),
    "cmudict": Figure(
        "cmudict_g2p",
        "--task translate --precision bf16 --epochs 24 --set units=192 --set batch_size=128 --set learning_rate=0.002 --set patience=0"
        " --set attention=general",
        "word_error",
        0.26,
    ),
    "cmudict-transducer": Figure(
        "cmudict_g2p",
        "--task transcribe --column source=column1 --column target=column2 --set writer=transducer --precision bf16 --epochs 12"
        " --set units=192 --set batch_size=128 --set num_beams=5 --set patience=0",
        "word_error",
    ),
    "cmudict-ctc": Figure(
        "cmudict_g2p",
        "--task transcribe --column source=column1 --column target=column2 --set widen=3 --set units=256 --minutes 30",
        "word_error",
    ),
    **{
        f"sigmorphon-{name}": Figure(f"sigmorphon2021_g2p/{name}", f"{G2P} {updates_of(PAIRS[name])}", "word_error", error)
        for name, error in BASELINE.items()
    },
    "multi30k": Figure(
        "multi30k_en_de", "--task translate --precision bf16 --set network.bleu=none --set members=2 --minutes 85", "bleu", 33.0
    ),
    "multi30k-summary": Figure(
        "multi30k_en_de", "--task translate --precision bf16 --set network.bleu=none --set attention=none --minutes 40", "bleu"
    ),
}


def prepared(name: str, data: Path, work: Path) -> Path:
    """The folder to fit."""
    source = FIGURES[name].data
    if name == "fsdd":
        return spoken_strings(data / source, work / "fsdd-strings")
    if not name.startswith("sigmorphon"):
        return data / source
    folder, language = work / source, source.rpartition("/")[2]
    folder.mkdir(parents=True, exist_ok=True)
    for split in ("train", "dev", "test"):
        packed = data / "sigmorphon2021_g2p" / f"{language}_{split}.tsv.gz"
        (folder / f"{split}.tsv").write_bytes(gzip.decompress(packed.read_bytes()))
    return folder


def spoken_strings(data: Path, folder: Path) -> Path:
    """Strings of digits, each a few recordings one after the other, as .npz: frames with frames_offsets, and the digits."""
    if (folder / "test.npz").exists():
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    train, test = (np.load(data / f"fsdd_{split}.npz") for split in ("train", "test"))
    numbers = np.arange(len(train["label"]))
    chosen = {
        "train": (train, numbers[train["index"] >= 10], 8000, 1),
        "valid": (train, numbers[train["index"] < 10], 500, 2),
        "test": (test, np.arange(len(test["label"])), 500, 3),
    }
    for split, (source, recordings, count, seed) in chosen.items():
        draw, left = np.random.default_rng(seed), np.zeros(0, np.int64)
        starts, frames, digits = source["logmel_offsets"], [], []
        logmel = source["logmel"]
        for _ in range(count):
            size = int(draw.integers(3, 8))
            while len(left) < size:  # each recording comes as often as any other
                left = np.concatenate([left, draw.permutation(recordings)])
            string, left = left[:size], left[size:]
            frames.append(np.concatenate([logmel[starts[k] : starts[k + 1]] for k in string]))
            digits.append(" ".join(str(int(source["label"][k])) for k in string))
        offsets = np.cumsum([0, *map(len, frames)])
        np.savez(folder / f"{split}.npz", frames=np.concatenate(frames), frames_offsets=offsets, digits=np.array(digits))
    return folder


def table(results: dict[str, dict]) -> str:
    lines = ["| run | metric | test | to reach | symbol_error | seconds |", "| --- | --- | --- | --- | --- | --- |"]
    for name, figure in FIGURES.items():
        if name in results:
            metrics = results[name]["metrics"]
            reach = "" if figure.wanted is None else f"{figure.wanted:g}"
            test = metrics["test"]
            lines.append(
                f"| {name} | {figure.metric} | {test[figure.metric]:.4f} | {reach} | {test['symbol_error']:.4f} | {metrics['seconds']:.0f} |"
            )
            for length, score in test.get("bleu_by_length", {}).items():
                lines.append(f"| {name}, {length} words | bleu | {score:.2f} | | | |")
    errors = {name: results[f"sigmorphon-{name}"]["metrics"]["test"]["word_error"] for name in BASELINE if f"sigmorphon-{name}" in results}
    if len(errors) == len(BASELINE):
        mean = sum(BASELINE.values()) / len(BASELINE)
        spread = sum(e * (1 - e) / WORDS[name] for name, e in BASELINE.items()) ** 0.5 / len(BASELINE)
        lines.append(f"\nsigmorphon, mean of five: {sum(errors.values()) / 5:.4f}; baseline {mean:.4f}, standard error of it {spread:.4f}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", nargs="*", default=[], help="runs by name, or by how several names begin")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--runs", type=Path, default=Path("runs/pairs"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/pairs.json"))
    given = parser.parse_args()
    results: dict[str, dict] = read(given.results)
    for name in FIGURES:
        asked = not given.only or name in given.only or any(name.startswith(o) for o in given.only if o not in FIGURES)
        if name in results or not asked:
            continue
        path, arguments = prepared(name, given.data, given.runs), shlex.split(FIGURES[name].options)
        results[name] = fitted(path, arguments, given.runs / f"{name}-{given.seed}", given.seed)
        keep(given.results, results)
        print(table({name: results[name]}), flush=True)
    print(table(results))


if __name__ == "__main__":
    main()
