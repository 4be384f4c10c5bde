"""What can be set about the network of `tree`."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["TreeSettings"]


class TreeSettings(BaseModel):
    """The network of `tree`. What is None follows from the data."""

    model_config = ConfigDict(extra="forbid")

    cell: str | None = Field(
        None, description="the cell at each node: treelstm where nodes have two children at most, else childsumtreelstm"
    )
    units: int | None = Field(None, ge=1, description="units of the state of a node")
    down: str | None = Field(
        None, description="a cell that goes back from the root to the leaves, such as gru: each node then hears of what lies around it"
    )
    word_size: int | None = Field(None, ge=1, description="size of the vector of a symbol")
    vectors: Literal["random", "own"] = Field(
        "random", description="where vectors of symbols start: at random, or (own) from which ones stand together in the training data"
    )
    compare: int = Field(100, ge=1, description="units that compare two trees")
    tensor: bool | None = Field(
        None,
        description="two trees are compared by all products of their numbers too, as in the paper of rntn; None: where the cell is rntn",
    )
    shared: bool = Field(False, description="of two trees, each word also tells whether it stands in both")
    dropout: float | None = Field(None, ge=0, lt=1, description="of vectors of symbols, and of states before they are read out")
    shape: Literal["given", "balanced", "chain", "learned"] = Field(
        "given",
        description="the trees of the data; or, over their words: balanced ones; chains (of a cell with one slot, the sequence itself);"
        " those that the network finds",
    )
    brackets: bool = Field(
        False,
        description="a sequence (shape=chain of a cell with one slot) also has the brackets of the given trees, as words: without them"
        " it does not tell which words belong together",
    )
    merges: Literal["score", "gumbel"] = Field(
        "score",
        description="how shape=learned learns which neighbours to join: from the trees of the training data (score), or from the labels"
        " alone (gumbel)",
    )
    labels: Literal["nodes", "root"] = Field("nodes", description="learn from every label in a tree, or from that of the root alone")
    classes: tuple[str, ...] | None = Field(
        None,
        description="the labels that there are; another one, in any split, is an error that says where. None: those of the training data",
    )
    reconstruction: float = Field(0.1, ge=0, description="weight of the error of a recursive autoencoder, beside the loss of its labels")
    penn: bool | None = Field(None, description="whether a bracket begins with its label")
    rare: float = Field(0.25, ge=0, description="a symbol seen n times is taken for an unknown one with probability rare / (rare + n)")
    largest_vocabulary: int = Field(100_000, ge=1, description="at most so many different symbols are known")
