"""What can be set about learning, with its meaning, limits and default: the `[learning]` part of a configuration."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["Settings"]


class Settings(BaseModel):
    """How to learn. A task fills in what it knows to be good for its data; whoever trains may override any of it.

    Where 0 makes sense as "none" it means that: no clipping, no averaging, no early stopping, no limit.

    >>> Settings(learning_rate=0.01).schedule
    'cosine'
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    optimizer: Literal["adamw", "adam", "nesterov"] = Field(
        "adamw", description="AdamW; Adam, whose decay is a part of the loss (L2); or stochastic gradient descent with Nesterov momentum"
    )
    learning_rate: float = Field(2e-3, gt=0, description="the highest rate of the schedule")
    schedule: Literal["constant", "linear", "cosine"] = Field(
        "cosine", description="how the rate goes after the warm-up; the last two end at 0"
    )
    warmup: float = Field(0.05, ge=0, lt=1, description="share of the run in which the rate climbs from 0")
    momentum: float = Field(0.9, ge=0, lt=1, description="Nesterov's momentum; the first beta of Adam and AdamW")
    weight_decay: float = Field(
        0.01,
        ge=0,
        description="decay of matrices (never of biases and gains): of AdamW times the rate at each step, of others in the gradient",
    )
    clip_norm: float = Field(1.0, ge=0, description="the gradient is scaled down to this norm; 0: not")
    clip_value: float = Field(0.0, ge=0, description="each element of the gradient is cut to this magnitude; 0: not")
    nonfinite: Literal["stop", "random_step"] = Field(
        "stop", description="when a gradient is not finite: stop, or take a random step of norm clip_norm (Goodfellow et al., 10.11.1)"
    )
    epochs: int = Field(20, ge=0, description="passes over the training data; 0: as many as fit into `minutes`")
    minutes: float = Field(0.0, ge=0, description="wall-clock time for everything, preparation and report included; 0: no limit")
    batch_size: int = Field(32, ge=1, description="sequences in a batch")
    patience: int = Field(0, ge=0, description="stop after so many evaluations without a better score; 0: never")
    average: float = Field(
        0.0, ge=0, lt=1, description="decay of a moving average of the weights, which is what is scored and kept; 0: none"
    )
    average_after: int = Field(
        0,
        ge=0,
        description="the plain mean of all weights from then on is scored and kept after so many evaluations without a better score; 0: never",
    )
    keep: Literal["best", "last"] = Field("best", description="which weights are kept: the best on the validation data, or the last")
    seed: int = Field(0, ge=0, lt=2**63, description="of the first weights, the order of batches and dropout")
    checkpoint_seconds: float = Field(30.0, ge=0, description="at most so much work is lost when the process is killed")
    precision: Literal["float32", "bf16"] = Field(
        "float32", description='"bf16": large products of training in bfloat16, summed in float32; weights and scores stay float32'
    )
    device: str = Field("cpu", pattern=r"^(cpu|cuda(:\d+)?)$", description='"cpu", "cuda" or "cuda:1"')

    @model_validator(mode="after")
    def _one_average(self) -> Settings:
        if self.average and self.average_after:
            raise ValueError("average and average_after are two ways to average the weights: set one of them to 0")
        return self
