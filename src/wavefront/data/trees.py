"""Trees as people write them: brackets with labels (Penn) or without, nested JSON, Newick, heads of words. No reading recurses."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice
from typing import Any, NamedTuple

from wavefront.errors import DataError

__all__ = ["ReadTree", "TreeText", "from_heads", "labelled", "parse_tree", "read_trees"]


DEEPEST = 100  # levels of a tree that are drawn: a margin is as wide as its level is deep


class ReadTree(NamedTuple):
    """One tree, its nodes numbered so that siblings stand in their order.

    parent   the number of each node's parent, -1 for the root
    words    what stands at each node, None where nothing does (inner nodes of brackets)
    labels   the label of each node, None where there is none
    lengths  of the branch above each node (Newick), None where not given

    >>> parse_tree("(3 (2 a) (4 (2 good) (2 film)))").words
    ['a', 'good', 'film', None, None]
    """

    parent: list[int]
    words: list[str | None]
    labels: list[str | None]
    lengths: list[float | None]

    def node(self, children: Sequence[int], word: str | None = None, label: str | None = None) -> int:
        """Appends the parent of nodes that are there; its number."""
        me = len(self.parent)
        self.parent.append(-1)
        self.words.append(word)
        self.labels.append(label)
        self.lengths.append(None)
        for child in children:
            self.parent[child] = me
        return me

    def bracketed(self, labels: Sequence[str | None] | None = None) -> str:
        """In Penn's brackets, on one line, with these labels or its own.

        >>> parse_tree('["a", ["b", "c"]]').bracketed(["0", "1", "2", "3", "4"])
        '(4 (0 a) (3 (1 b) (2 c)))'
        """
        said, tokens = self.labels if labels is None else labels, []
        inner = set(self.parent)
        for node, _, leaving in self.walk():
            bracket = node in inner or said[node] is not None
            if leaving:
                tokens += [")"] if bracket else []
            else:
                tokens += ["("] if bracket else []
                tokens += [text for text in (said[node], self.words[node]) if text is not None]
        return _joined(tokens)

    def drawn(self, labels: Sequence[str | None] | None = None) -> str:
        """A node a line, its label and word, under its parent; what lies below `DEEPEST` levels as "...".

        >>> print(parse_tree("(4 (3 good) (2 (2 old) (2 film)))").drawn())
        4
        ├─ 3 good
        └─ 2
           ├─ 2 old
           └─ 2 film
        """
        said, lines = self.labels if labels is None else labels, []
        margins = [""]
        for node, last, leaving in self.walk():
            if leaving:
                margins.pop()
                continue
            if len(margins) > DEEPEST:
                if len(margins) == DEEPEST + 1:
                    lines.append(margins[-1] + "└─ ...")
                margins.append(margins[-1])
                continue
            text = " ".join(text for text in (said[node], self.words[node]) if text is not None) or "·"
            root = self.parent[node] < 0
            lines.append(margins[-1] + ("" if root else "└─ " if last else "├─ ") + text)
            margins.append(margins[-1] + ("" if root else "   " if last else "│  "))
        return "\n".join(lines)

    def walk(self) -> Iterator[tuple[int, bool, bool]]:
        """(node, whether it is its parent's last child, whether this is the end of it), from the root down, left to right."""
        children: list[list[int]] = [[] for _ in self.parent]
        for node, parent in enumerate(self.parent):
            if parent >= 0:
                children[parent].append(node)
        todo = [(self.parent.index(-1), True, False)]
        while todo:
            node, last, leaving = todo.pop()
            yield node, last, leaving
            if not leaving:
                todo.append((node, last, True))
                todo += [(child, child == children[node][-1], False) for child in reversed(children[node])]


class TreeText(str):
    """The text of a tree from a file, on one line, which knows where it stood.

    >>> TreeText("(2 a)", "train.txt", 3, 1).place(1)
    'train.txt, line 3, column 2'
    """

    file: str
    line: int  # where it begins
    column: int | None  # None where it went over several lines

    def __new__(cls, text: str, file: str, line: int, column: int | None) -> TreeText:
        made = super().__new__(cls, text)
        made.file, made.line, made.column = file, line, column
        return made

    def place(self, character: int | None = None) -> str:
        """Of the tree, or of one of its characters, counted from 0."""
        known = self.column is not None and character is not None
        return f"{self.file}, line {self.line}" + (f", column {(self.column or 0) + (character or 0)}" if known else "")


def empty() -> ReadTree:
    return ReadTree([], [], [], [])


def parse_tree(text: str, where: str = "", penn: bool | None = None) -> ReadTree:
    """A tree from one text: `(2 (3 good) (2 film))`, `( good film )`, `["good", "film"]`, `{"label": "2", "children": [...]}`,
    `(good:0.1,film:0.2)root;`, or a single word.

    penn  whether a bracket begins with its label; None: as `labelled` sees it. Of no meaning to JSON and Newick

    Raises DataError, which names the character (counted from 1), for what is no tree.
    """
    text = text.strip()
    if text[:1] in ("[", "{"):
        return _from_json(text, where)
    if text.endswith(";"):
        return _from_newick(text, where)
    if text and not re.search(r"[\s()]", text):
        tree = empty()
        tree.node((), text)
        return tree
    found = [tree for _, tree in read_brackets([(1, text)], where, labelled([text]) if penn is None else penn, one_line=True)]
    if len(found) != 1:
        raise DataError(f"{_place(where)}expected one tree, got {len(found)}: {_shown(text)}.")
    return found[0]


def labelled(texts: Iterable[str]) -> bool:
    """Whether brackets begin with a label, as Penn's do: `(NP (DT the) (NN cat))`, not `( the cat )` or `((the big) cat)`.

    Seen from how they are written: after a label's bracket there is no blank, and no other bracket but the outermost of all stands
    without a label.
    """
    texts = [text for text in texts if "(" in text]
    try:
        return bool(texts) and not any(
            re.search(r"\(\s+[^\s()]", text) or any(tree is None for _, tree in read_brackets([(1, text)], "", True, strict=True))
            for text in texts
        )
    except DataError:  # what is wrong is said when it is read
        return True


def read_trees(lines: Iterable[tuple[int, str]], where: str, penn: bool | None = None) -> Iterator[tuple[TreeText, ReadTree]]:
    """The trees of numbered lines: (its text on one line, the tree). Brackets and Newick may go over several lines, JSON has one a line."""
    kept = ((number, line) for number, line in lines if line.strip())
    head = list(islice(kept, 1000))
    stream = chain(head, kept)
    if head and head[0][1].lstrip()[:1] in ("[", "{"):
        for number, line in stream:
            text = TreeText(line.strip(), where, number, len(line) - len(line.lstrip()) + 1)
            yield text, _from_json(text, f"{where}, line {number}")
    elif any(line.rstrip().endswith(";") for _, line in head):
        newick, start = "", 0
        for number, line in stream:
            start = start if newick else number
            newick += line.strip()
            if newick.endswith(";"):
                column = len(line) - len(line.lstrip()) + 1 if start == number else None
                yield TreeText(newick, where, start, column), _from_newick(newick, f"{where}, line {start}")
                newick = ""
        if newick:
            raise DataError(f"{where}, line {start}: the tree that begins here has no ; at its end. Is the file cut short?")
    else:
        yield from read_brackets(stream, where, labelled(line for _, line in head) if penn is None else penn)


class Open(NamedTuple):
    """A bracket that is not closed yet."""

    begins: tuple[int, int]  # line and column
    label: list[str]  # none, or one
    children: list[int]
    words: list[int]  # those of the children that are bare words


def read_brackets(
    lines: Iterable[tuple[int, str]], where: str, penn: bool, one_line: bool = False, strict: bool = False
) -> Iterator[tuple[TreeText, Any]]:
    """Bracketed trees; with `strict` None for one that has a bracket without a label where there should be one."""
    tree, stack, text = empty(), [], []  # type: ignore[var-annotated]
    bare = False

    def at(line: int, column: int) -> str:
        return f"{_place(where)}character {column}" if one_line else f"{_place(where)}line {line}, column {column}"

    for number, line in lines:
        for found in re.finditer(r"[()]|[^()\s]+", line):
            token, column = found[0], found.start() + 1
            text.append(token)
            if token == "(":
                if stack and column == 1 and not one_line:
                    raise DataError(
                        f"{at(number, column)}: a tree begins, but the one that began at {at(*stack[0].begins)} is not closed. Is a ) missing there?"
                    )
                stack.append(Open((number, column), [], [], []))
            elif not stack:
                what = "a ) that closes nothing" if token == ")" else f"{token!r} stands outside of all brackets"
                raise DataError(f"{at(number, column)}: {what}. Expected a tree: ( ... ).")
            elif token != ")":
                top = stack[-1]
                if penn and not top.label and not top.children:
                    top.label.append(token)
                else:
                    top.words.append(tree.node((), token))
                    top.children.append(top.words[-1])
            else:
                top = stack.pop()
                if not top.children:
                    what = f"({top.label[0]}) has a label and nothing else" if top.label else "a bracket with nothing in it"
                    raise DataError(f"{at(*top.begins)}: {what}. Expected a word or brackets.")
                bare |= penn and not top.label and (bool(stack) or len(top.children) > 1)
                node = _closed(tree, top)
                if stack:
                    stack[-1].children.append(node)
                else:
                    one = top.begins[0] == number
                    said = line[top.begins[1] - 1 : column] if one else _joined(text)
                    yield TreeText(said, where, top.begins[0], top.begins[1] if one else None), None if strict and bare else tree
                    tree, text, bare = empty(), [], False
    if stack:
        raise DataError(
            f"{at(*stack[0].begins)}: the tree that begins here is not closed at the end: {len(stack)} ) missing. Is it cut short?"
        )


def _closed(tree: ReadTree, bracket: Open) -> int:
    """The node of a bracket: (2 word) is a word with a label; brackets around one node without a label add nothing."""
    if len(bracket.children) == 1:
        (child,) = bracket.children
        if not bracket.label:
            return child
        if bracket.words:
            tree.labels[child] = bracket.label[0]
            return child
    return tree.node(bracket.children, None, bracket.label[0] if bracket.label else None)


def _joined(tokens: list[str]) -> str:
    """Brackets and words on one line; as they were close or apart."""
    return " ".join(tokens).replace("( ", "(").replace(" )", ")")


def from_heads(words: Sequence[str], heads: Sequence[str | int], labels: Sequence[str] | None = None, where: str = "") -> ReadTree:
    """A dependency tree: the head of each word, counted from 1; 0 for the root (CoNLL-U).

    >>> from_heads(["the", "cat", "sleeps"], ["2", "3", "0"]).parent
    [1, 2, -1]
    """
    parent = []
    for number, head in enumerate(heads, 1):
        try:
            parent.append(int(head) - 1)
        except ValueError:
            raise DataError(f"{_place(where)}word {number} ({words[number - 1]!r}): its head is no number: {head!r}.") from None
        if not -1 <= parent[-1] < len(words):
            raise DataError(f"{_place(where)}word {number} ({words[number - 1]!r}): its head is {head}, but there are {len(words)} words.")
    if parent.count(-1) != 1:
        raise DataError(f"{_place(where)}{parent.count(-1)} words have head 0; a tree has one root.")
    walked = [-1] * len(parent)  # the word from which a walk to the root first came by
    for start in range(len(parent)):
        node = start
        while node >= 0 and walked[node] < 0:
            walked[node] = start
            node = parent[node]
        if node >= 0 and walked[node] == start:  # this very walk has been here before
            names = [repr(words[node])]
            while parent[node] >= 0 and (len(names) == 1 or repr(words[node]) != names[0]) and len(names) < 8:
                node = parent[node]
                names.append(repr(words[node]))
            raise DataError(f"{_place(where)}the heads of words go round in a cycle: {' -> '.join(names)}.")
    return ReadTree(parent, list(words), list(labels) if labels else [None] * len(words), [None] * len(words))


JSON_TOKEN = re.compile(r'\s*(?:([][{}:,])|("(?:[^"\\]|\\.)*")|(-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?|true|false|null))')
VALUE, KEY, COLON, COMMA = "a value", "a key in quotes", "a :", "a , or the end"


def load_json(text: str, where: str = "") -> Any:
    """As json.loads, of any depth."""
    root: list[Any] = []
    stack: list[Any] = [root]
    keys: list[str | None] = [None]
    expected, position = {VALUE}, 0
    end = len(text.rstrip())
    while position < end:
        found = JSON_TOKEN.match(text, position)
        token = found[found.lastindex or 0] if found else text[position:].lstrip()[:1]
        column = (found.start(found.lastindex or 0) if found else end - len(text[position:end].lstrip())) + 1
        kind = {":": COLON, ",": COMMA, "]": "]", "}": "}"}.get(token, KEY if KEY in expected else VALUE)
        if not found or kind not in expected or (len(stack) == 1 and root) or (kind == KEY and token[0] != '"'):
            raise DataError(f"{_place(where)}character {column}: expected {' or '.join(sorted(expected))}, got {_shown(token)}.")
        position = found.end()
        inside = stack[-1]
        if kind == COLON:
            expected = {VALUE}
        elif kind == COMMA:
            expected = {KEY} if isinstance(inside, dict) else {VALUE}
        elif kind == KEY:
            keys[-1], expected = json.loads(token), {COLON}
        else:
            if kind in ("]", "}"):
                stack.pop()
                keys.pop()
            else:
                value = [] if token == "[" else {} if token == "{" else json.loads(token)
                if isinstance(inside, dict):
                    inside[keys[-1]] = value
                else:
                    inside.append(value)
                if token in ("[", "{"):
                    stack.append(value)
                    keys.append(None)
                    expected = {VALUE, "]"} if token == "[" else {KEY, "}"}
                    continue
            expected = {COMMA, "]" if isinstance(stack[-1], list) else "}"}
    if len(stack) > 1 or not root:
        raise DataError(
            f"{_place(where)}character {end + 1}: expected {' or '.join(sorted(expected))}, but this is the end. Is it cut short?"
        )
    return root[0]


def _from_json(text: str, where: str) -> ReadTree:
    """A string is a leaf, a list a node with children, an object a node with "children", "word" and "label", each by choice."""
    tree = empty()
    # values to come, last first; None marks the end of the children of the node that `open_` has last
    todo: list[Any] = [load_json(text, where)]
    open_: list[tuple[dict[str, Any], list[int]]] = [({}, [])]
    while todo:
        value = todo.pop()
        if value is open_:
            about, children = open_.pop()
            word, label = (None if about.get(key) is None else str(about[key]) for key in ("word", "label"))
            if not children and word is None:
                raise DataError(f"{_place(where)}a node without a word and without children: {_shown(str(about or []))}.")
            open_[-1][1].append(tree.node(children, word, label))
        elif isinstance(value, (list, dict)):
            about = value if isinstance(value, dict) else {"children": value}
            below = about.get("children", [])
            if unknown := about.keys() - {"children", "word", "label"}:
                raise DataError(f'{_place(where)}a node has "children", "word" and "label"; got {min(unknown)!r}.')
            if not isinstance(below, list):
                raise DataError(f'{_place(where)}the "children" of a node are a list, got {_shown(str(below))}.')
            open_.append((about, []))
            todo.append(open_)
            todo.extend(reversed(below))
        elif isinstance(value, (str, int, float)) and not isinstance(value, bool):
            open_[-1][1].append(tree.node((), str(value)))
        else:
            raise DataError(f"{_place(where)}a node is a string, a list or an object; got {json.dumps(value)}.")
    return tree


NEWICK_TOKEN = re.compile(r"\s*(?:([(),:;])|'((?:[^']|'')*)'|(\[[^\]]*\])|([^\s()\[\]',:;]+))")


def _from_newick(text: str, where: str) -> ReadTree:
    """(A:0.1,(B,C)D:0.2)E; names at leaves are words, those of inner nodes labels.  [Olsen 1990, the Newick format]"""
    tree = empty()
    stack: list[list[int]] = []
    last: int | None = None  # the node that a name, a length or a , may follow
    named, position, ended = False, 0, False

    def wrong(what: str) -> DataError:
        return DataError(f"{_place(where)}character {position + 1}: {what}. Newick is (A:0.1,(B,C)D)E;")

    while position < len(text.rstrip()):
        found = NEWICK_TOKEN.match(text, position)
        if found is None:
            raise wrong(f"a quote or comment that is not closed: {_shown(text[position:])}")
        mark, quoted, comment, plain = found.groups()
        if ended and comment is None:
            raise wrong("there is more after the ;")
        if mark == "(":
            if last is not None:
                raise wrong("a ( directly after a node; is a , missing?")
            stack.append([])
        elif mark in (",", ")"):
            if not stack:
                raise wrong(f"a {mark} outside of all brackets")
            stack[-1].append(tree.node((), "") if last is None else last)
            last, named = None, False
            if mark == ")":
                last = tree.node(stack.pop())
        elif mark == ";":
            if stack:
                raise wrong(f"the tree ends with {len(stack)} ) missing")
            if last is None:
                raise wrong("a tree without nodes")
            ended = True
        elif mark == ":":
            number = re.compile(r"\s*([-+.\deE]+)").match(text, found.end())
            try:
                if last is None:
                    last = tree.node((), "")
                tree.lengths[last] = float(number[1] if number else "")
            except ValueError:
                raise wrong("a : without the length of a branch after it") from None
            assert number is not None
            position = number.end()
            continue
        elif comment is None:
            name = quoted.replace("''", "'") if quoted is not None else plain.replace("_", " ")
            if last is None:
                last = tree.node((), name)
            elif tree.words[last] is None and not named:
                tree.labels[last] = name
            else:
                raise wrong(f"the name {name!r} directly after a node; is a , missing?")
            named = True
        position = found.end()
    if not ended:
        raise wrong("no ; at the end. Is it cut short?")
    return tree


def _place(where: str) -> str:
    return f"{where}, " if where else ""


def _shown(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")
