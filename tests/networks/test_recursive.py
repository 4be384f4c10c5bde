"""Networks over trees: both ways, what is read out, and trees that are learned."""

import math
from itertools import pairwise, product

import pytest
import torch

from wavefront import Recursive, ShapeError, Tree, cells, unfold
from wavefront.networks import LearnedTree, TreeReadout
from wavefront.networks.learned_tree import _spans, _tree


def scrambled(module):
    torch.manual_seed(0)
    module.double()
    with torch.no_grad():
        for p in module.parameters():
            p.copy_(torch.randn(p.shape, dtype=p.dtype) * 0.6)
    return module


TREES = [((0, 1), (2, (3, 4))), 5, ((6, 7), 8)]


def test_leaves_alone_or_all_nodes_are_given():
    net, tree = scrambled(Recursive(cells.TreeLSTM(3, 4))), Tree.nested(TREES)
    x = torch.randn(len(tree.leaves), 3, dtype=torch.double)
    outputs, root = net(x, tree)
    again, _ = net(tree.at_leaves(x), tree)
    torch.testing.assert_close(outputs, again, rtol=0, atol=0)
    torch.testing.assert_close(outputs[tree.roots], root.h, rtol=0, atol=0)
    with pytest.raises(ShapeError, match=r"one row for each of the 9 leaves, got \[4, 3\]"):
        net(x[:4], tree)


def test_down_each_node_hears_of_its_parent_and_of_itself():
    up, down = cells.TreeRNN(3, 4), cells.Elman(4, 2)
    net, tree = scrambled(Recursive(up, down)), Tree.nested(TREES)
    x = torch.randn(tree.nodes, 3, dtype=torch.double)
    outputs, (root, last) = net(x, tree)
    h, g = outputs.split([4, 2], 1)
    for node, parent in enumerate(tree.parent.tolist()):
        before = torch.zeros(1, 2, dtype=torch.double) if parent < 0 else g[parent][None]
        torch.testing.assert_close(g[node][None], down.step(before, h[node][None])[0], rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(h[tree.roots], root)
    torch.testing.assert_close(last, g[[5, 9, 13]])  # the last leaf of each tree


def test_a_dependency_tree_has_words_at_all_nodes_and_children_in_no_order():
    net = scrambled(Recursive(cells.ChildSumTreeLSTM(3, 4)))
    heads = [1, -1, 1, 4, 1]
    x = torch.randn(5, 3, dtype=torch.double)
    _, root = net(x, Tree(heads))
    turned = [4, 0, 3, 2, 1]  # the same tree, its words in another order
    number = [turned.index(node) for node in range(5)]
    _, again = net(x[turned], Tree([-1 if heads[node] < 0 else number[heads[node]] for node in turned]))
    torch.testing.assert_close(root.h, again.h, rtol=1e-12, atol=1e-13)


def test_one_cell_over_given_balanced_and_chained_trees_side_by_side():
    net, x = scrambled(Recursive(cells.TreeLSTM(3, 4))), torch.randn(4, 3, dtype=torch.double)
    given = Tree.nested([((0, 1), (2, 3)), (((0, 1), 2), 3)])
    leaves = x[torch.tensor(given.values)]
    (both, _), (balanced, _), (chain, _) = net(leaves, given), net(x, Tree.balanced([4])), net(x, Tree.chain([4]))
    torch.testing.assert_close(both[given.roots[0]], balanced[-1])
    torch.testing.assert_close(both[given.roots[1]], chain[-1])


def test_outputs_are_read_at_the_root_at_every_node_or_at_labelled_ones():
    tree, h = Tree.nested(TREES), torch.randn(15, 4)
    readout = TreeReadout(4, 2)
    everywhere = TreeReadout(4, 2, at="nodes")
    everywhere.load_state_dict(readout.state_dict())
    all_nodes = everywhere(h, tree)
    torch.testing.assert_close(all_nodes, readout.V(h))
    torch.testing.assert_close(readout(h, tree), all_nodes[tree.roots])
    labelled = torch.arange(15) % 3 == 0
    torch.testing.assert_close(readout(h, tree, labelled), all_nodes[labelled])
    torch.testing.assert_close(everywhere(h, tree, torch.tensor([7, 2])), all_nodes[[7, 2]])
    with pytest.raises(ShapeError, match=r"outputs of all 15 nodes, \[15, 4\], got \[3, 4\]"):
        readout(h[:3], tree)


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: Recursive(cells.TreeRNN(3, 4), cells.Elman(3, 4)), "the way down takes the outputs of the way up, 4 of them"),
        (lambda: Recursive(cells.TreeRNN(3, 4), cells.TreeRNN(4, 4)), "one parent's state"),
        (lambda: Recursive(cells.Elman), "Recursive unfolds a wavefront.Cell"),
        (lambda: LearnedTree(cells.Elman(3, 4)), "LearnedTree joins two nodes"),
        (lambda: LearnedTree(cells.TreeRNN(3, 4))(torch.zeros(2, 3, 3), lengths=[0, 3]), "whole numbers from 1 to 3"),
        (lambda: LearnedTree(cells.TreeRNN(3, 4))(torch.zeros(2, 3)), r"expects x of \[B, T, 3\]"),
    ],
)
def test_what_does_not_fit_is_named(make, text):
    with pytest.raises((ShapeError, TypeError), match=text):
        make()


def bracketings(first, last):
    """All binary trees over the leaves first..last."""
    if first == last:
        return [first]
    cuts = range(first, last)
    return [pair for cut in cuts for pair in product(bracketings(first, cut), bracketings(cut + 1, last))]


def greedy(net, x):
    """Ten lines in plain Python for one sequence: nested tuples, the root's state, the score."""
    net_step = lambda a, b, x: net.cell.step((a, b), x)[0]  # noqa: E731
    zero = net.cell.initial_state(1)
    nodes = [(t, net_step(zero, zero, x[t][None])) for t in range(len(x))]
    total = x.new_zeros(())
    while len(nodes) > 1:
        joined = [((a, b), net_step(s, t, torch.zeros_like(x[:1]))) for (a, s), (b, t) in pairwise(nodes)]
        scores = [net.w(state).squeeze() for _, state in joined]
        best = max(range(len(joined)), key=[float(s.detach()) for s in scores].__getitem__)
        total = total + scores[best]
        nodes[best : best + 2] = [joined[best]]
    return (*nodes[0], total)


@pytest.mark.parametrize("by", ["score", "gumbel"])
def test_the_best_pair_is_joined_again_and_again(by):
    net = scrambled(LearnedTree(cells.TreeRNN(3, 4), by)).eval()
    lengths = [1, 2, 7, 5, 7]
    x = torch.randn(5, 7, 3, dtype=torch.double)
    for row, length in enumerate(lengths):
        x[row, length:] = float("nan")  # never looked at
    root, tree, score = net(x, lengths)
    for row, length in enumerate(lengths):
        nested, state, total = greedy(net, x[row, :length])
        torch.testing.assert_close(root[row], state[0], rtol=1e-12, atol=1e-13)
        torch.testing.assert_close(score[row], total, rtol=1e-12, atol=1e-13)
        # the tree that is returned is that tree, in the numbering of leaves first
        again = Tree.nested([nested])
        _, alone, _ = net(x[row : row + 1, :length])
        leaves = torch.randn(length, 3, dtype=torch.double)
        ordered = leaves[torch.tensor(again.values)]
        torch.testing.assert_close(Recursive(net.cell)(leaves, alone)[1], Recursive(net.cell)(ordered, again)[1], rtol=1e-12, atol=1e-13)
    # and unfolding over the trees gives the same states and scores
    flat = torch.cat([x[row, :length] for row, length in enumerate(lengths)])
    torch.testing.assert_close(Recursive(net.cell)(flat, tree)[1], root, rtol=1e-12, atol=1e-13)
    torch.testing.assert_close(net.score(flat, tree), score, rtol=1e-12, atol=1e-13)


def test_drawn_trees_are_drawn_by_the_softmax_of_their_scores():
    net = scrambled(LearnedTree(cells.TreeRNN(3, 4))).train()
    x = torch.randn(1, 3, 3, dtype=torch.double).repeat(4000, 1, 1)
    _, tree, _ = net(x)
    left = (tree.parent.view(4000, 5)[:, 0] == tree.parent.view(4000, 5)[:, 1]).double().mean()
    zero = net.cell.initial_state(3)
    leaf = net.cell.step((zero, zero), x[0])[0]
    pairs = net.cell.step((leaf[:2], leaf[1:]), torch.zeros(2, 3, dtype=torch.double))[0]
    p = net.w(pairs)[:, 0].softmax(0)[0]
    p = float(p.detach())
    assert abs(float(left) - p) < 4 * math.sqrt(p * (1 - p) / 4000)


def test_only_a_drawn_choice_sends_gradients_to_what_it_chose_by():
    for by, reached in (("gumbel", True), ("score", False)):
        net = scrambled(LearnedTree(cells.TreeRNN(3, 4), by)).train()
        x = torch.randn(2, 5, 3, dtype=torch.double)
        root, _, _ = net(x, [5, 3])
        (gradient,) = torch.autograd.grad(root.sum(), net.w.weight, allow_unused=True)
        assert (gradient is not None and bool(gradient.abs().sum() > 0)) is reached
        assert gradient is None or bool(gradient.isfinite().all())


def test_in_training_the_forward_values_are_those_of_the_drawn_tree():
    net = scrambled(LearnedTree(cells.TreeLSTM(3, 4))).train()
    x, lengths = torch.randn(6, 6, 3, dtype=torch.double), [6, 1, 4, 6, 2, 5]
    root, tree, _ = net(x, lengths)
    flat = torch.cat([x[row, :length] for row, length in enumerate(lengths)])
    torch.testing.assert_close(Recursive(net.cell)(flat, tree)[1].h, root.h, rtol=1e-9, atol=1e-10)


def test_the_margin_raises_the_given_tree_over_all_others():
    torch.manual_seed(3)
    net = LearnedTree(cells.TreeRNN(3, 4), by="score").double()
    x = torch.randn(4, 3, dtype=torch.double)
    every = Tree.nested(bracketings(0, 3))
    assert every.rows == 5
    gold = bracketings(0, 3)[2]
    assert gold == ((0, 1), (2, 3))
    given = Tree.nested([gold])
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    for _ in range(200):
        _, _, found = net(x[None])
        loss = net.margin(found, net.score(x, given)).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    _, tree, _ = net(x[None])
    assert tree.parent.tolist() in ([4, 4, 5, 5, 6, 6, -1], [5, 5, 4, 4, 6, 6, -1])


def test_gradients_of_trees_are_those_of_finite_differences():
    tree = Tree.nested(TREES)
    for make in (cells.TreeLSTM, cells.ChildSumTreeLSTM, cells.RNTN, cells.MVRNN, cells.TreeGRU, cells.RecursiveAutoencoder):
        cell = scrambled(make(2, 3))
        x = torch.randn(tree.nodes, 2, dtype=torch.double, requires_grad=True)

        def run(x, *_, cell=cell):
            outputs, root = unfold(cell, tree, tree.pack(x))
            return outputs, *torch.utils._pytree.tree_leaves(root)

        assert torch.autograd.gradcheck(run, (x, *cell.parameters()), fast_mode=True)


def test_a_search_among_right_pairs_finds_every_tree():
    net = scrambled(LearnedTree(cells.TreeRNN(3, 4), by="score"))
    every = [*bracketings(0, 5), *bracketings(0, 3), 0]
    lengths = [6] * 42 + [4] * 5 + [1]
    x = torch.randn(len(every), 6, 3, dtype=torch.double)
    merges, _ = net._search(x, torch.tensor(lengths), _spans(Tree.nested(every), torch.tensor(lengths), 6))
    found = _tree(torch.tensor(lengths).numpy(), merges)
    ends = torch.cat([torch.zeros(1, dtype=torch.long), (2 * torch.tensor(lengths) - 1).cumsum(0)])
    for tree, first, last in zip(every, ends[:-1], ends[1:]):
        parent = found.parent[first:last]
        assert same(tree, Tree(torch.where(parent < 0, -1, parent - first), found.slot[first:last]))


def spans(tree):
    """The nodes of a nested tuple whose leaves are numbered from left to right."""
    return {tree} if not isinstance(tree, tuple) else set.union({tree}, *map(spans, tree))


def taught(net, x, gold, wrong):
    """The parsing loss of one sequence, in plain Python."""
    zero, total = net.cell.initial_state(1), x.new_zeros(())
    nodes = [(t, net.cell.step((zero, zero), x[t][None])[0]) for t in range(len(x))]
    while len(nodes) > 1:
        joined = [((a, b), net.cell.step((s, t), torch.zeros_like(x[:1]))[0]) for (a, s), (b, t) in pairwise(nodes)]
        scores = [net.w(state).squeeze() for _, state in joined]
        right = [k for k, (pair, _) in enumerate(joined) if pair in spans(gold)]
        best = max(right, key=[float(s.detach()) for s in scores].__getitem__)
        if others := [score for k, score in enumerate(scores) if k not in right]:
            total = total + (wrong + torch.stack(others).max() - scores[best]).clamp(min=0)
        nodes[best : best + 2] = [joined[best]]
    return total


def test_the_parsing_loss_is_that_of_plain_python():
    net = scrambled(LearnedTree(cells.TreeRNN(3, 4), by="score"))
    golds, lengths = [((0, 1), ((2, 3), 4)), (0, ((1, 2), 3)), (0, 1), 0], [5, 4, 2, 1]
    x = torch.randn(4, 5, 3, dtype=torch.double)
    loss = net.parsing_loss(x, Tree.nested(golds), lengths, wrong=0.5)
    want = torch.stack([taught(net, x[row, :length], gold, 0.5) for row, (gold, length) in enumerate(zip(golds, lengths))])
    torch.testing.assert_close(loss, want, rtol=1e-12, atol=1e-13)
    mine, theirs = (torch.autograd.grad(total.sum(), net.parameters()) for total in (loss, want))
    for a, b in zip(mine, theirs):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)
    assert (loss > 0).tolist() == [True, True, False, False]  # of two leaves there is one tree


def same(nested, tree):
    """Whether a found tree, leaves first, is this nested tuple."""
    below = {leaf: leaf for leaf in range(len(tree.leaves))}
    parents, slots = tree.parent.tolist(), tree.slot.tolist()
    for node in range(len(tree.leaves), tree.nodes):
        pair = sorted((slots[child], below[child]) for child in range(node) if parents[child] == node)
        below[node] = tuple(part for _, part in pair)
    return below[int(tree.roots[0])] == nested
