import json
import pickle

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from wavefront.errors import RunError
from wavefront.learning import load_weights, save_weights
from wavefront.learning.weights import pack, unpack


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))


def test_saved_is_loaded(tmp_path):
    saved, loaded = net(), net()
    nn.init.zeros_(loaded[0].weight)
    save_weights(saved.state_dict(), tmp_path / "w")
    load_weights(loaded, tmp_path / "w")
    assert all(torch.equal(a, b) for a, b in zip(saved.parameters(), loaded.parameters()))


def test_every_tensor_that_does_not_fit_is_listed(tmp_path):
    tensors = dict(net().state_dict())
    del tensors["0.bias"]
    tensors["2.gain"] = torch.ones(2)
    tensors["0.weight"] = tensors["0.weight"].t().contiguous()
    tensors["1.weight"] = tensors["1.weight"].double()
    tensors["1.bias"] = torch.tensor([1.0, float("nan")])
    save_file(tensors, tmp_path / "w")
    loaded = net()
    before = [p.clone() for p in loaded.parameters()]
    with pytest.raises(RunError) as error:
        load_weights(loaded, tmp_path / "w")
    for line in (
        "missing: 0.bias [4] float32",
        "not in this network: 2.gain [2] float32",
        "0.weight is [3, 4] float32, the network has [4, 3] float32",
        "1.weight is [2, 4] float64, the network has [2, 4] float32",
        "1.bias has 1 of 2 values that are not finite",
    ):
        assert line in str(error.value)
    assert all(torch.equal(a, b) for a, b in zip(before, loaded.parameters()))


def test_a_tensor_that_is_there_twice(tmp_path):
    entry = '"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    header = f"{{{entry},{entry}}}".encode()
    (tmp_path / "w").write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(RunError, match="there twice: w"):
        load_weights(nn.Linear(1, 1), tmp_path / "w")


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("the pickle ran",))


@pytest.mark.parametrize("disguise", ["pickle", "torch.save", "zip"])
def test_pickle_in_disguise_is_refused_and_not_run(tmp_path, disguise):
    path = tmp_path / "model.safetensors"
    if disguise == "pickle":
        path.write_bytes(pickle.dumps(Bomb()))
    else:
        torch.save({"w": Bomb()}, path, _use_new_zipfile_serialization=disguise == "zip")
    with pytest.raises(RunError, match="is a pickle"):
        load_weights(net(), path)


@pytest.mark.parametrize("content", [b"", b"hello", b"\xff" * 100, (10**9).to_bytes(8, "little") + b"{}", json.dumps({"w": 1}).encode()])
def test_what_is_no_safetensors_file(tmp_path, content):
    (tmp_path / "w").write_bytes(content)
    with pytest.raises(RunError, match="is not a whole safetensors file"):
        load_weights(net(), tmp_path / "w")


def test_a_missing_file(tmp_path):
    with pytest.raises(RunError, match=r"cannot read the weights .*No such file"):
        load_weights(net(), tmp_path / "w")


def test_a_header_whose_length_looks_like_a_pickle_is_read(tmp_path):
    for size in range(1, 200):  # names make the header longer: by eights, 0x80 comes up as its first byte
        weights = {"w" * size: torch.zeros(1)}
        content = pack(weights)
        assert list(unpack(content, tmp_path / "model.safetensors")) == list(weights)
    assert any(pack({"w" * size: torch.zeros(1)})[:1] == b"\x80" for size in range(1, 200))
