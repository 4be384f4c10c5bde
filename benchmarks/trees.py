"""Figures over trees: how fast, and how good on public data.

    python benchmarks/trees.py speed  [--data ../shared/data] [--results benchmarks/results/trees.json]
    python benchmarks/trees.py sizes
    python benchmarks/trees.py fit    [--only sst quantifiers] [--seeds 5]

speed   forward and backward of a binary Tree-LSTM of 150 units over batches of 25 trees of SST, the unfolding alone: compiled; the same fronts in
        plain torch operations; one node at a time. Runs are interleaved, the fastest of each is kept.
sizes   time over the number of nodes, of bushy and of chain-like trees.
fit     one `wavefront fit --task tree` a seed, without further options but those named here. A run that was finished is not run again, one that was
        interrupted is carried on. SST is trained on train.txt, its validation split cut from it by hash, and scored once on dev.txt.
"""

from __future__ import annotations

import argparse
import gzip
import json
import random
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor

from fitted import fitted
from record import about, keep, read
from turns import fastest
from wavefront import Tree, cells, unfold
from wavefront.data.trees import parse_tree

UNITS, BATCH = 150, 25


def node_by_node(cell: cells.TreeLSTM, tree: Tree, x: Tensor) -> Tensor:
    """What people write: a tree walked from its leaves, one node a step."""
    children: list[list[int]] = [[] for _ in range(tree.nodes)]
    for node, parent in enumerate(tree.parent.tolist()):
        if parent >= 0:
            children[parent].append(node)
    missing = cell.initial_state(1)
    states: list[object] = []
    outputs = []
    for node, below in enumerate(children):  # SST's nodes come children first
        before = [states[child] for child in below] + [missing] * (2 - len(below))
        state, output = cell.step(tuple(before), x[node : node + 1])
        states.append(state)
        outputs.append(output)
    return torch.cat(outputs)


def passed(cell: cells.TreeLSTM, tree: Tree, x: Tensor, backend: str) -> None:
    if backend == "node by node":
        node_by_node(cell, tree, x).sum().backward()
    else:
        unfold(cell, tree, x, backend=backend)[0].sum().backward()


def speed(data: Path, rounds: int) -> dict[str, object]:
    torch.manual_seed(0)
    cell = cells.TreeLSTM(UNITS, UNITS)
    with gzip.open(data / "sst/train.txt.gz", "rt") as lines:
        trees = [parse_tree(line, penn=True).parent for line in islice(lines, 20 * BATCH)]
    batches = [Tree.batch(trees[k : k + BATCH]) for k in range(0, len(trees), BATCH)]
    inputs = [torch.randn(tree.nodes, UNITS) for tree in batches]

    def over(backend: str, some: int) -> Callable[[], None]:
        return lambda: [passed(cell, tree, x, backend) for tree, x in zip(batches[:some], inputs)]  # type: ignore[return-value]

    few = 2  # batches: one node at a time takes long
    found = fastest({backend: over(backend, few) for backend in ("compiled", "reference", "node by node")}, rounds)
    all_of_them = fastest({backend: over(backend, len(batches)) for backend in ("compiled", "reference")}, rounds)
    nodes = sum(tree.nodes for tree in batches)
    return {
        "batches": few,
        "seconds": found,
        "times faster than one node at a time": found["node by node"] / found["compiled"],
        "times faster than the same fronts in torch": all_of_them["reference"] / all_of_them["compiled"],
        "microseconds a node of SST": {name: 1e6 * seconds / nodes for name, seconds in all_of_them.items()},
    }


def sizes(rounds: int) -> dict[str, object]:
    """Building a tree, forward and backward of 16 units: seconds by nodes n, and the k of seconds ∝ n^k by least squares of the logarithms."""
    found: dict[str, object] = {}
    cell = cells.TreeLSTM(16, 16)
    for name, make in (("bushy", Tree.balanced), ("chain", Tree.chain)):
        parents = {leaves: make([leaves]).parent for leaves in (1_000, 4_000, 16_000, 64_000)}
        inputs = {leaves: torch.randn(len(parent), 16) for leaves, parent in parents.items()}
        ways = {
            str(len(parent)): lambda parent=parent, x=inputs[n]: passed(cell, Tree(parent), x, "compiled")  # type: ignore[misc]
            for n, parent in parents.items()
        }
        seconds = fastest(ways, rounds)
        log_n, log_s = (torch.tensor([*map(float, values)]).log() for values in (seconds, seconds.values()))
        slope = ((log_n - log_n.mean()) * (log_s - log_s.mean())).sum() / (log_n - log_n.mean()).square().sum()
        found[name] = {"exponent": round(float(slope), 3), "seconds by nodes": seconds}
    return found


def copied(source: Path, target: Path, keep: Callable[[str], str | None] = lambda line: line) -> None:
    with gzip.open(source, "rt") as lines, target.open("a") as out:
        out.writelines(found for line in lines if (found := keep(line)) is not None)


def pair(line: str) -> str | None:
    """relation, first, second of a TSV line; None of a comment."""
    return None if line.startswith("%") else "\t".join(part.strip() for part in line.split("\t")[:3]) + "\n"


def sst(data: Path, folder: Path) -> None:
    copied(data / "sst/train.txt.gz", folder / "train.txt")
    copied(data / "sst/dev.txt.gz", folder / "test.txt")


def pairs(*files: tuple[str, str, int | None]) -> Callable[[Path, Path], None]:
    """Files of (split, name, size of the formulas in it, if they have one)."""

    def write(data: Path, folder: Path) -> None:
        for split, name, size in files:
            target, sized = folder / f"{split}.tsv", size is not None
            if not target.exists():
                target.write_text("label\tfirst\tsecond" + "\tsize" * sized + "\n")
            more = f"\t{size}\n" if sized else "\n"
            copied(data / name, target, lambda line, more=more: None if (found := pair(line)) is None else found.rstrip("\n") + more)

    return write


def listops(data: Path, folder: Path, count: int = 20_000) -> None:
    """Expressions by the rule of SOURCES.md (of which the paper takes 90,000), none of them in the file that is scored. To learn from they have the
    value of each list at its node; what is scored has brackets alone.
    """
    with gzip.open(data / "listops/test_d20s_public.tsv.gz", "rt") as lines:
        test = [line.rstrip("\n").split("\t") for line in lines]
    seen = {text for _, text in test}
    generator = random.Random(0)
    with (folder / "train.jsonl").open("w") as out:
        written = 0
        for value, text, labelled in expressions(generator):
            if text not in seen:
                seen.add(text)
                out.write(json.dumps({"label": str(value), "expression": json.dumps(labelled)}) + "\n")
                written += 1
                if written == count:
                    break
    rows = (json.dumps({"label": value, "expression": text}) for value, text in test)
    (folder / "test.jsonl").write_text("\n".join(rows) + "\n")


def expressions(generator: random.Random, deepest: int = 20) -> Iterator[tuple[int, str, Any]]:
    """[MAX 2 9 [MIN 4 7 ] 0 ]: its value, in binary brackets, and in JSON with the value of each list; a number alone is none."""
    rules: dict[str, Callable[[list[int]], int]] = {
        "[MIN": min,
        "[MAX": max,
        "[MED": lambda values: (sorted(values)[(len(values) - 1) // 2] + sorted(values)[len(values) // 2]) // 2,
        "[SM": lambda values: sum(values) % 10,
    }

    def made(depth: int) -> tuple[int, str, Any]:
        if depth >= deepest or generator.random() >= 0.25:
            digit = generator.randrange(10)
            return digit, str(digit), str(digit)
        name = generator.choice(list(rules))
        values: list[int] = []
        text: str = name
        tree: Any = name
        for _ in range(generator.randint(2, 5)):
            value, part, branch = made(depth + 1)
            values.append(value)
            text, tree = f"( {text} {part} )", [tree, branch]
        whole = rules[name](values)
        return whole, f"( {text} ] )", {"label": str(whole), "children": [tree, "]"]}

    while True:
        value, text, tree = made(0)
        if text.startswith("("):
            yield value, text, tree


def given(*settings: str) -> list[str]:
    return [part for setting in settings for part in ("--set", setting)]


LOGIC = [("train", f"propositional_logic/train{k}.tsv.gz", k) for k in range(5)] + [
    ("test", f"propositional_logic/test{k}.tsv.gz", k) for k in range(13)
]
QUANTIFIERS = [("train", "quantifiers/f1_train.tsv.gz", None), ("test", "quantifiers/f1_test.tsv.gz", None)]
SICK = [("train", "sick/train.tsv.gz", None), ("test", "sick/trial.tsv.gz", None)]
SIZED = ["--column", "size=size"]
SEQUENCE = ("network.shape=chain", "network.cell=lstm")
LONG = (
    "learning.weight_decay=0.1",
    "learning.learning_rate=0.003",
    "learning.batch_size=128",
    "learning.epochs=60",
    "learning.patience=0",
)
RNTN = (
    "network.cell=rntn",
    "network.units=25",
    "network.word_size=25",
    "network.rare=0",
    "learning.optimizer=adam",
    "learning.weight_decay=0.001",
    "learning.learning_rate=0.003",
    "learning.clip_norm=1",
    "learning.batch_size=128",
    "learning.epochs=60",
    "learning.patience=0",
    "learning.keep=last",
)
# name -> what writes its data, the name of those, further arguments of `wavefront fit`, metrics that are shown
RUNS: dict[str, tuple[Callable[[Path, Path], None], str, list[str], tuple[str, ...]]] = {
    "sst": (sst, "sst", [], ("accuracy_root", "accuracy_root_binary")),
    "sst-own": (sst, "sst", given("network.vectors=own"), ("accuracy_root", "accuracy_root_binary")),
    "logic": (
        pairs(*LOGIC),
        "logic",
        [*SIZED, *given("network.units=96", "network.dropout=0.1", *LONG)],
        ("accuracy", "accuracy_by_size"),
    ),
    "logic-sequence": (
        pairs(*LOGIC),
        "logic",
        [*SIZED, *given(*SEQUENCE, "network.brackets=true", "network.units=128", "learning.epochs=60", "learning.patience=0")],
        ("accuracy", "accuracy_by_size"),
    ),
    "quantifiers": (pairs(*QUANTIFIERS), "quantifiers", given(*RNTN), ("accuracy",)),
    # what the test file is to train, in train alone: no validation pair has a sentence that is learned from. By this settings are chosen
    "quantifiers-apart": (
        pairs(*QUANTIFIERS[:1]),
        "quantifiers-apart",
        given(*RNTN, 'data.groups=["first", "second"]'),
        ("accuracy",),
    ),
    "sick": (pairs(*SICK), "sick", given("network.shared=true"), ("accuracy",)),
    "listops": (
        listops,
        "listops",
        given("network.units=100", "learning.epochs=12", "learning.learning_rate=0.005", "learning.batch_size=32"),
        ("accuracy_root",),
    ),
    "listops-learned": (
        listops,
        "listops",
        given("network.units=100", "network.shape=learned", "learning.epochs=4", "learning.learning_rate=0.005", "learning.batch_size=32"),
        ("accuracy_root",),
    ),
    "listops-sequence": (listops, "listops", given("network.units=100", *SEQUENCE, "learning.epochs=10"), ("accuracy_root",)),
}


def fit(name: str, data: Path, runs: Path, seed: int) -> dict[str, Any]:
    write, source_name, arguments, _ = RUNS[name]
    source = runs / f"data-{source_name}"
    if not source.exists():
        source.mkdir(parents=True)
        write(data, source)
    return fitted(source, ["--task", "tree", *arguments], runs / f"trees-{name}-{seed}", seed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed", "sizes", "fit"))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--only", nargs="*", default=list(RUNS), choices=list(RUNS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--runs", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results/trees.json"))
    options = parser.parse_args()
    results = read(options.results)
    if options.what in ("speed", "sizes"):
        found = speed(options.data, options.rounds) if options.what == "speed" else sizes(options.rounds)
        command = f"python benchmarks/trees.py {options.what} --rounds {options.rounds}"
        results[options.what] = {**about(command), **found}
        print(json.dumps(results[options.what], indent=1))
        keep(options.results, results)
        return
    for name in options.only:
        for seed in range(options.seeds):
            results[f"{name}-{seed}"] = fit(name, options.data, options.runs, seed)
            keep(options.results, results)
        for metric in RUNS[name][3]:
            metrics = [results[f"{name}-{seed}"]["metrics"] for seed in range(options.seeds)]
            scores = [found.get("test", found["valid"])[metric] for found in metrics]
            if metric == "accuracy_by_size":
                print(f"{name:<16} {metric:<22} " + "  ".join(f"{size}: {100 * share:.1f}" for size, share in scores[0].items()))
            else:
                print(f"{name:<16} {metric:<22} {mean(scores):.4f}  of {options.seeds}, {min(scores):.4f} to {max(scores):.4f}")


if __name__ == "__main__":
    main()
