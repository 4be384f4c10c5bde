"""Which tree is read over the words of a row: its own, a balanced one, a chain, or one that was found."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from wavefront.data.trees import ReadTree
from wavefront.structure import Tree

__all__ = ["in_order", "is_binary", "over_words", "sequence", "with_parents", "words_of"]

Word = tuple[str, str | None]  # and its label


def words_of(tree: ReadTree) -> list[Word]:
    """The words of a tree, left to right, each with its label."""
    return [(word, label) for word, label in zip(tree.words, tree.labels) if word is not None]


def words_and_brackets(tree: ReadTree) -> list[Word]:
    """The words of a tree, left to right, and brackets, as words without a label, around each node with children.

    >>> from wavefront.data.trees import parse_tree
    >>> " ".join(word for word, _ in words_and_brackets(parse_tree("((not a) (or b))")))
    '( ( not a ) ( or b ) )'
    """
    inner, found = set(tree.parent), list[Word]()
    for node, _, leaving in tree.walk():
        if node in inner:
            found.append((")" if leaving else "(", None))
        if not leaving and (word := tree.words[node]) is not None:
            found.append((word, tree.labels[node]))
    return found


def root_label(tree: ReadTree) -> str | None:
    return tree.labels[tree.parent.index(-1)]


def is_binary(tree: ReadTree) -> bool:
    """Whether words stand at its leaves alone, and every other node has two children."""
    children = [0] * len(tree.parent)
    for parent in tree.parent:
        if parent >= 0:
            children[parent] += 1
    return all(count == (2 if word is None else 0) for count, word in zip(children, tree.words))


def sequence(tree: ReadTree, brackets: bool = False) -> ReadTree:
    """Word after word, if asked for with brackets between: each is the parent of the one before it, and the last is the root.

    >>> from wavefront.data.trees import parse_tree
    >>> sequence(parse_tree("(1 (0 a) (1 (0 b) (1 c)))")).parent
    [1, 2, -1]
    """
    words = words_and_brackets(tree) if brackets else words_of(tree)
    made = ReadTree([], [], [], [])
    for place, (word, label) in enumerate(words):
        made.node([place - 1] if place else [], word, label)
    made.labels[-1] = root_label(tree) if root_label(tree) is not None else made.labels[-1]
    return made


def over_words(over: Tree, tree: ReadTree) -> ReadTree:
    """The words of a tree under another one, a structure whose leaves have the first numbers.

    >>> from wavefront.data.trees import parse_tree
    >>> over_words(Tree.balanced([3]), parse_tree("(1 (0 a) (1 (0 b) (1 c)))")).bracketed()
    '(1 ((0 a) (0 b)) (1 c))'
    """
    ((_, parent),) = in_order(over)
    return with_parents(tree, parent)


def with_parents(tree: ReadTree, parent: Sequence[int]) -> ReadTree:
    """The words of a tree at the leaves of another one, whose nodes come after their children, left to right; its root has the tree's label."""
    inner, words, root = set(parent), iter(words_of(tree)), root_label(tree)
    stands = [(None, None) if node in inner else next(words) for node in range(len(parent))]
    labels = [label for _, label in stands]
    labels[-1] = root if root is not None else labels[-1]
    return ReadTree([*parent], [word for word, _ in stands], labels, [None] * len(parent))


def in_order(trees: Tree) -> Iterator[tuple[list[int], list[int]]]:
    """Of each tree of a batch its nodes, each after its children, left to right; and their parents by their places in this order.

    >>> list(in_order(Tree.batch([[4, 3, 3, 4, -1]])))
    [([0, 1, 2, 3, 4], [4, 3, 3, 4, -1])]
    """
    children: list[list[int]] = [[] for _ in range(trees.nodes)]
    parents, slots = trees.parent.tolist(), trees.slot.tolist()
    for node, parent in enumerate(parents):
        if parent >= 0:
            children[parent].append(node)
    for root in trees.roots.tolist():
        down: list[int] = []
        todo = [root]
        while todo:  # from the root down, right before left: backwards it is children first, left to right
            down.append(todo.pop())
            todo += sorted(children[down[-1]], key=slots.__getitem__)
        down.reverse()
        place = {node: k for k, node in enumerate(down)}
        yield down, [place.get(parents[node], -1) for node in down]
