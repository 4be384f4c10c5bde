"""Trees as people write them: what they mean, that any depth and width are read, and what is said of those that are none."""

import json

import pytest
from hypothesis import given, settings, strategies as st

from wavefront.data import open_source
from wavefront.data.trees import from_heads, labelled, load_json, parse_tree
from wavefront.errors import DataError


def nested(tree):
    """A tree back as nested tuples: (label, children...) or a word, or (label, word)."""
    made = {}
    children = [[k for k, parent in enumerate(tree.parent) if parent == node] for node in range(len(tree.parent))]
    for node in range(len(tree.parent)):
        made[node] = tree.words[node] if not children[node] else tuple(made[child] for child in children[node])
        if tree.labels[node] is not None:
            made[node] = (tree.labels[node] + ":", made[node])
    return made[tree.parent.index(-1)]


@pytest.mark.parametrize(
    ("text", "penn", "tree"),
    [
        ("(3 (2 It) (4 (2 is) (3 good)))", None, ("3:", (("2:", "It"), ("4:", (("2:", "is"), ("3:", "good")))))),
        ("( (S (NP (NN cats)) (VP (VB sleep))) )", None, ("S:", (("NP:", (("NN:", "cats"),)), ("VP:", (("VB:", "sleep"),))))),
        ("(NP the cat)", True, ("NP:", ("the", "cat"))),
        ("( ( not a ) ( and b ) )", None, (("not", "a"), ("and", "b"))),
        ("( not a )", None, ("not", "a")),
        ("((the big) cat)", None, (("the", "big"), "cat")),
        ("(the cat)", False, ("the", "cat")),
        ("( a )", None, "a"),
        ("word", None, "word"),
        ("(2 word)", None, ("2:", "word")),
        ('["a", ["b", "c"]]', None, ("a", ("b", "c"))),
        ('{"label": 3, "children": ["a", {"word": "b c", "label": "x"}]}', None, ("3:", ("a", ("x:", "b c")))),
        ('{"word": "head", "children": ["left", "right"]}', None, ("left", "right")),
        ("(A:0.1,(B,C)D:2e-1)E;", None, ("E:", ("A", ("D:", ("B", "C"))))),
        ("('it''s'[a comment],Homo_sapiens);", None, ("it's", "Homo sapiens")),
        ("A;", None, "A"),
    ],
)
def test_every_notation(text, penn, tree):
    assert nested(parse_tree(text, penn=penn)) == tree


def test_words_at_inner_nodes_and_lengths_of_branches():
    assert parse_tree('{"word": "head", "children": ["left", "right"]}').words == ["left", "right", "head"]
    assert parse_tree("(A:0.1,(B,C)D:2e-1)E;").lengths == [0.1, None, None, 0.2, None]
    assert from_heads(["the", "cat", "sleeps"], [2, 3, 0], ["DET", "NOUN", "VERB"]).parent == [1, 2, -1]


shapes = st.recursive(st.sampled_from("abc"), lambda below: st.lists(below, min_size=2, max_size=3).map(tuple), max_leaves=15)


@settings(max_examples=60, deadline=None)
@given(shapes, st.booleans())
def test_what_is_written_is_read(shape, close):
    def brackets(tree):
        if isinstance(tree, str):
            return tree
        return "(" + " " * (not close) + " ".join(map(brackets, tree)) + " " * (not close) + ")"

    def penn(tree):
        return "(X " + (tree if isinstance(tree, str) else " ".join(map(penn, tree))) + ")"

    def named(tree):
        return ("X:", tree if isinstance(tree, str) else tuple(map(named, tree)))

    def listed(tree):
        return tree if isinstance(tree, str) else list(map(listed, tree))

    assert nested(parse_tree(brackets(shape), penn=False)) == shape
    assert nested(parse_tree(penn(shape), penn=True)) == named(shape)
    if not isinstance(shape, str):  # a word alone is no JSON
        assert nested(parse_tree(json.dumps(listed(shape)))) == shape
    assert load_json(json.dumps({"a": [1, -2.5e3, None, True, {"b": {}, "c": []}, listed(shape)]})) == json.loads(
        json.dumps({"a": [1, -2.5e3, None, True, {"b": {}, "c": []}, listed(shape)]})
    )


def test_labels_are_seen_from_how_brackets_are_written():
    assert labelled(["(2 (1 a) (3 b))", "(2 c)"])
    assert labelled(["( (S (NN a) (VB b)) )"])
    assert not labelled(["( not d )", "a", "( a ( or b ) )"])
    assert not labelled(["((a b) c)", "(d e)"])
    assert not labelled(["a"])


DEEP = 100_000


@pytest.mark.parametrize(
    "text",
    [
        "(2 " * DEEP + "(2 x)" + ")" * DEEP,
        "( a " * DEEP + "x" + " )" * DEEP,
        '["a",' * DEEP + '"x"' + "]" * DEEP,
        '{"children":["a",' * DEEP + '"x"' + "]}" * DEEP,
        "(a," * DEEP + "x" + ")" * DEEP + ";",
    ],
    ids=["penn", "plain", "json", "json objects", "newick"],
)
def test_a_hundred_thousand_levels(text):
    tree = parse_tree(text)
    assert len(tree.parent) >= DEEP + 1
    assert tree.parent.count(-1) == 1


def test_deep_trees_are_drawn_down_to_where_it_can_be_seen():
    lines = parse_tree("(2 " * DEEP + "(2 x)" + ")" * DEEP).drawn().splitlines()
    assert (len(lines), lines[1], lines[-1].strip()) == (101, "└─ 2", "└─ ...")


@pytest.mark.parametrize("text", ["( " + "a " * 10_000 + ")", "(" + ",".join("a" * 10_000) + ");", json.dumps([["a"] * 10_000])])
def test_ten_thousand_children(text):
    tree = parse_tree(text)
    assert max(tree.parent.count(node) for node in set(tree.parent)) == 10_000


def test_a_sentence_of_a_hundred_thousand_words_each_the_head_of_the_one_before():
    assert len(from_heads(["w"] * DEEP, [*range(2, DEEP + 1), 0]).parent) == DEEP


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(2 (1 a) (3 b)", r"here, character 1: the tree that begins here is not closed at the end: 1 \) missing"),
        ("(2 (1 a)) b)", r"here, character 11: 'b' stands outside of all brackets"),
        ("(2 a))", r"here, character 6: a \) that closes nothing"),
        ("(2 (1 a) (3))", r"here, character 10: \(3\) has a label and nothing else"),
        ("( a ( ) )", r"here, character 5: a bracket with nothing in it"),
        ("()", r"here, character 1: a bracket with nothing in it"),
        ("", "here, expected one tree, got 0"),
        ("(2 a) (2 b)", "here, expected one tree, got 2"),
        ("a b", "here, character 1: 'a' stands outside of all brackets"),
        ('["a", ["b"', r"here, character 11: expected \] or a , or the end, but this is the end. Is it cut short\?"),
        ('["a" "b"]', r"here, character 6: expected \] or a , or the end, got '\"b\"'"),
        ('["a", nope]', "here, character 7: expected a value, got 'n'"),
        ('{"word" "a"}', "here, character 9: expected a :"),
        ('["a"] "b"', "here, character 7: expected"),
        ('["a", null]', "a node is a string, a list or an object; got null"),
        ('["a", []]', "a node without a word and without children"),
        ('{"wrod": "a"}', 'a node has "children", "word" and "label"; got \'wrod\''),
        ('{"word": "a", "children": "b"}', 'the "children" of a node are a list'),
        ("(A,B;", r"here, character 5: the tree ends with 1 \) missing"),
        ("(A,B));", r"here, character 6: a \) outside of all brackets"),
        ("(A B);", "here, character 3: the name 'B' directly after a node; is a , missing"),
        ("(A:x,B);", "here, character 3: a : without the length of a branch"),
        ("(A(B));", r"here, character 3: a \( directly after a node"),
        ("(A,'B);", "here, character 4: a quote or comment that is not closed"),
        (";", "a tree without nodes"),
        ("(A);B;", "there is more after the ;"),
    ],
)
def test_what_is_no_tree_is_named_with_its_place(text, message):
    with pytest.raises(DataError, match=message):
        parse_tree(text, "here")


@pytest.mark.parametrize(
    ("heads", "message"),
    [
        ([2, 3, 1], "0 words have head 0"),
        ([0, 0, 1], "2 words have head 0"),
        ([2, 1, 0], r"the heads of words go round in a cycle: 'a' -> 'b' -> 'a'"),
        ([0, 2, 1], "round in a cycle: 'b' -> 'b'"),
        ([0, 9, 1], r"word 2 \('b'\): its head is 9, but there are 3 words"),
        ([0, "_", 1], r"word 2 \('b'\): its head is no number: '_'"),
    ],
)
def test_heads_that_make_no_tree_are_named(heads, message):
    with pytest.raises(DataError, match=message):
        from_heads(["a", "b", "c"], heads, where="here")


@pytest.mark.parametrize(
    ("name", "content", "trees"),
    [
        ("train.txt", "(3 (2 a) (4 b))\n\n(2 c)\n", ["(3 (2 a) (4 b))", "(2 c)"]),
        ("wsj.mrg", "( (S\n  (NP (NN cats))\n  (VP (VB sleep))) )\n", ["((S (NP (NN cats)) (VP (VB sleep))))"]),
        ("trees.jsonl", '["a", ["b", "c"]]\n["d", "e"]\n', ['["a", ["b", "c"]]', '["d", "e"]']),
        ("trees.json", '{"label": "x", "children": ["a", "b"]}\n', ['{"label": "x", "children": ["a", "b"]}']),
        ("phylogeny.nwk", "(A,\n(B,C));\n(D,E);\n", ["(A,(B,C));", "(D,E);"]),
        ("semicolon.txt", "(2 (2 a) (2 ;))\n", ["(2 (2 a) (2 ;))"]),
    ],
)
def test_files_of_trees(tmp_path, name, content, trees):
    path = tmp_path / name
    path.write_text(content)
    source = open_source(path)
    assert source.format == "trees"
    assert [row["tree"] for row in source.rows("all")] == trees
    assert all(parse_tree(tree).parent for tree in trees)


@pytest.mark.parametrize(
    ("name", "content", "format"),
    [
        ("words.jsonl", '{"tokens": ["a", "b"], "tags": ["x", "y"]}\n', "jsonl"),
        ("lists.jsonl", '{"series": [[1, 2], [3, 4]]}\n', "jsonl"),
        ("text.txt", "(so it begins) with a bracket\nand goes on without\n", "text"),
    ],
)
def test_files_of_other_things(tmp_path, name, content, format):
    path = tmp_path / name
    path.write_text(content)
    assert open_source(path).format == format


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "a.txt",
            "(2 (1 a) (3 b)\n(2 c)\n",
            r"a.txt, line 2, column 1: a tree begins, but the one that began at .*line 1, column 1 is not closed",
        ),
        (
            "a.txt",
            "(2 (1 a) (3 b))\n(2 (1 a)",
            r"a.txt, line 2, column 1: the tree that begins here is not closed at the end: 1 \) missing",
        ),
        ("a.txt", "(2 a)\n(2 (1 a) (3 b)))\n", r"a.txt, line 2, column 16: a \) that closes nothing"),
        ("a.txt", "(2 a)\n(2 (1 b) (1))\n", r"a.txt, line 2, column 10: \(1\) has a label and nothing else"),
        ("a.ptb", "\n\n", "no rows; expected a tree"),
        ("a.nwk", "(A,B);\n(C,(D,E)", "a.nwk, line 2: the tree that begins here has no ; at its end"),
        ("a.jsonl", '[["a", "b"], "c"]\n[["a", "b"], \n', "a.jsonl, line 2, character 13: expected a value, but this is the end"),
    ],
)
def test_a_broken_file_is_named_with_line_and_column(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        list(open_source(path).rows("all"))
