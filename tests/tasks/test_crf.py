"""The CRF against enumeration of all sequences, and against pytorch-crf."""

from itertools import pairwise, product

import pytest
import torch
import torchcrf

from wavefront.errors import ShapeError
from wavefront.networks.crf import CRF

LENGTHS = torch.tensor([4, 1, 3, 0])


def case(labels=3, allowed=None, seed=0):
    torch.manual_seed(seed)
    crf = CRF(labels, allowed).double()
    for p in crf.parameters():
        torch.nn.init.normal_(p, std=2.0)
    return crf, torch.randn(len(LENGTHS), 4, labels, dtype=torch.double) * 2


def score(crf, scores, path):
    total = crf.start[path[0]] + crf.end[path[-1]] + sum(scores[t, k] for t, k in enumerate(path))
    return total + sum(crf.A[i, j] for i, j in pairwise(path))


def test_likelihood_is_that_of_all_sequences_enumerated():
    crf, scores = case()
    labels = torch.randint(3, (4, 4))
    for row, n in enumerate(LENGTHS.tolist()):
        found = crf(scores, labels, LENGTHS)[row]
        if n == 0:
            assert found == 0
            continue
        every = torch.stack([score(crf, scores[row], path) for path in product(range(3), repeat=n)])
        expected = score(crf, scores[row], labels[row, :n].tolist()) - every.logsumexp(0)
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-12)


def test_likelihood_and_its_gradients_are_pytorch_crfs():
    crf, scores = case()
    other = torchcrf.CRF(3, batch_first=True).double()
    other.start_transitions.data, other.end_transitions.data, other.transitions.data = crf.start.data, crf.end.data, crf.A.data
    labels, lengths = torch.randint(3, (3, 4)), LENGTHS[:3]  # pytorch-crf takes no sequence of length 0
    scores = scores[:3].requires_grad_()
    mask = torch.arange(4) < lengths[:, None]
    ours, theirs = crf(scores, labels, lengths).sum(), other(scores, labels, mask, reduction="sum")
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)
    mine = torch.autograd.grad(ours, [scores, crf.start, crf.end, crf.A])
    yours = torch.autograd.grad(theirs, [scores, other.start_transitions, other.end_transitions, other.transitions])
    for a, b in zip(mine, yours):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_decoding_is_the_best_of_all_sequences_enumerated():
    for seed in range(10):
        crf, scores = case(seed=seed)
        for row, path in enumerate(crf.decode(scores, LENGTHS)):
            n = int(LENGTHS[row])
            best = max(product(range(3), repeat=n), key=lambda p: score(crf, scores[row], p)) if n else ()
            assert tuple(path) == best


def test_what_is_not_allowed_is_never_decoded_and_the_best_of_the_rest_is():
    allowed = torch.ones(4, 4, dtype=torch.bool)
    allowed[3, 1] = allowed[0, 1] = allowed[2, 3] = False  # 1 does not begin, does not follow 0; 2 does not end
    for seed in range(20):
        crf, scores = case(allowed=allowed, seed=seed)
        for row, path in enumerate(crf.decode(scores, LENGTHS)):
            n = int(LENGTHS[row])
            able = [p for p in product(range(3), repeat=n) if all(allowed[i, j] for i, j in zip([3, *p], [*p, 3]))]
            best = max(able, key=lambda p: score(crf, scores[row], p)) if n else ()
            assert tuple(path) == best


def test_padding_and_batch_mates_do_not_matter():
    crf, scores = case()
    labels = torch.randint(3, (4, 4))
    alone = torch.stack(
        [crf(scores[i : i + 1, : max(1, n)], labels[i : i + 1, : max(1, n)], LENGTHS[i : i + 1])[0] for i, n in enumerate(LENGTHS)]
    )
    torch.testing.assert_close(crf(scores, labels, LENGTHS), alone, rtol=1e-12, atol=1e-12)
    scores[0, 4:], scores[1, 1:], scores[2, 3:] = 99.0, 99.0, 99.0
    torch.testing.assert_close(crf(scores, labels, LENGTHS), alone, rtol=1e-12, atol=1e-12)


def test_gradcheck():
    crf, scores = case()
    labels = torch.randint(3, (4, 4))
    torch.autograd.gradcheck(lambda s: crf(s, labels, LENGTHS), scores.requires_grad_())


def test_no_step_at_all():
    crf, _ = case()
    assert crf.decode(torch.zeros(2, 0, 3, dtype=torch.double), torch.tensor([0, 0])) == [[], []]
    assert crf(torch.zeros(2, 0, 3, dtype=torch.double), torch.zeros(2, 0, dtype=torch.long), torch.tensor([0, 0])).tolist() == [0, 0]


def test_wrong_shapes_say_what_was_expected():
    crf, scores = case()
    with pytest.raises(ShapeError, match=r"CRF\(3\) expects scores of \[B, T, 3\], got \[4, 4, 2\]"):
        crf.decode(scores[..., :2], LENGTHS)
    with pytest.raises(ShapeError, match="one length per sequence"):
        crf.decode(scores, LENGTHS[:2])
    with pytest.raises(ShapeError, match="the edge comes last"):
        CRF(3, torch.ones(3, 3, dtype=torch.bool))
