"""Figures of `tag` and `classify` on public data, each from one `wavefront fit FOLDER` without options.

    python benchmarks/tasks.py [--data ../shared/data] [--only snips-tag tsc] [--seed 0] [--results benchmarks/results/tasks.json]

A run that was finished is not run again; one that was interrupted is carried on. The validation split (given, or cut by hash) selects the
weights, and the test split is scored once, at the end of `fit`. Each result holds its command, seed, date, machine and metrics.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from fitted import fitted
from record import about, keep, read

# Reference figures as data/SOURCES.md gives them; InceptionTime on the default split, DTW where the lengths vary
SERIES = {
    "ItalyPowerDemand": 0.966,
    "GunPoint": 1.000,
    "ECG200": 0.910,
    "CBF": 0.999,
    "SyntheticControl": 0.997,
    "ArrowHead": 0.863,
    "Adiac": 0.844,
    "FacesUCR": 0.972,
    "OSULeaf": 0.921,
    "PowerCons": 0.994,
    "MelbournePedestrian": None,
    "GesturePebbleZ1": None,
    "JapaneseVowels": 0.949,
    "PLAID": 0.84,
}

# name -> what to fit, further arguments, the metric, what is to be reached
RUNS: dict[str, tuple[str, list[str], str, float | None]] = {
    "years": ("years", [], "span_f1", 0.99),
    "ewt-upos": ("ud_english_ewt", [], "accuracy", 0.94),
    "snips-classify": ("snips", ["--task", "classify"], "accuracy", 0.975),
    "snips-tag": ("snips", ["--task", "tag"], "span_f1", 0.92),
    "names": ("names", [], "macro_f1", None),
    **{f"tsc-{name}": (f"tsc/{name}", [], "accuracy", None if score is None else score - 0.15) for name, score in SERIES.items()},
}
RUNS["tsc-JapaneseVowels"] = ("tsc/JapaneseVowels", [], "accuracy", 0.975)


def character_ngrams(data: Path) -> dict[str, float]:
    """What `names` is held against: logistic regression on the counts of 1 to 4 characters, on the same splits."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import accuracy_score, f1_score
    from sklearn.pipeline import make_pipeline

    from wavefront.data import open_source

    source = open_source(str(data / "names"))
    rows = {split: list(source.rows(split)) for split in source.splits}
    best: tuple[float, object] = (-1.0, None)
    for C in (3.0, 10.0, 30.0):  # chosen on the validation split, as our weights are
        ngrams = TfidfVectorizer(analyzer="char_wb", ngram_range=(1, 4), lowercase=False, sublinear_tf=True)
        model = make_pipeline(ngrams, LogisticRegression(C=C, max_iter=1000))
        model.fit([row["text"] for row in rows["train"]], [row["label"] for row in rows["train"]])
        right = model.score([row["text"] for row in rows["valid"]], [row["label"] for row in rows["valid"]])
        best = max(best, (right, model), key=lambda pair: pair[0])
    gold, predicted = [row["label"] for row in rows["test"]], best[1].predict([row["text"] for row in rows["test"]])  # type: ignore[attr-defined]
    return {"accuracy": accuracy_score(gold, predicted), "macro_f1": f1_score(gold, predicted, average="macro")}


def table(results: dict[str, dict]) -> str:
    lines = ["| run | metric | test | to reach | seconds |", "| --- | --- | --- | --- | --- |"]
    for name, (_, _, metric, wanted) in RUNS.items():
        if name in results:
            found = results[name]["metrics"]
            reach = "" if wanted is None else f"{wanted:.3f}"
            lines.append(f"| {name} | {metric} | {found['test'][metric]:.4f} | {reach} | {found['seconds']:.0f} |")
    if "years" in results and "long" in results["years"]["metrics"]:
        lines.append(f"\nyears, sentences three times longer: span_f1 {results['years']['metrics']['long']['span_f1']:.4f}")
    if "names-ngrams" in results:
        ngrams = results["names-ngrams"]["metrics"]
        lines.append(f"\nnames, character n-grams: macro_f1 {ngrams['macro_f1']:.4f}, accuracy {ngrams['accuracy']:.4f}")
    series = {name: results[f"tsc-{name}"]["metrics"]["test"]["accuracy"] for name in SERIES if f"tsc-{name}" in results}
    if series:
        known = [(series[name], reference) for name, reference in SERIES.items() if name in series and reference is not None]
        lines.append(f"\ntsc: mean accuracy {sum(series.values()) / len(series):.4f} of {len(series)} sets")
        if known:
            lines.append(
                f"tsc, where a reference is given: {sum(a for a, _ in known) / len(known):.4f}, reference {sum(b for _, b in known) / len(known):.4f}"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", nargs="*", default=[], help="runs by name, or by how their names begin")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/tasks.json"))
    given = parser.parse_args()
    results: dict[str, dict] = read(given.results)
    for name in [*RUNS, "names-ngrams"]:
        if name in results or (given.only and not name.startswith(tuple(given.only))):
            continue
        if name == "names-ngrams":
            results[name] = {
                **about("benchmarks/tasks.py"),
                "metrics": character_ngrams(given.data),
            }
        else:
            source, arguments, _, _ = RUNS[name]
            path = source if source == "years" else given.data / source
            results[name] = fitted(path, arguments, given.runs / f"{name}-{given.seed}", given.seed)
        keep(given.results, results)
        print(table({name: results[name]} if name in RUNS else results), flush=True)
    print(table(results))


if __name__ == "__main__":
    main()
