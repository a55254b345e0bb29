"""The settings of training: each defined once, with its range, its default and one sentence."""

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["TrainingSettings"]


class TrainingSettings(BaseModel):
    """How `mvae.training.fit.fit` trains.

    >>> TrainingSettings(epochs=60, anneal_epochs=24).batch_size
    100
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    epochs: int = Field(100, ge=1, description="Passes over the training rows, in each of the model's stages.")
    batch_size: int = Field(100, ge=1, description="Batch size.")
    learning_rate: float = Field(1e-3, gt=0, description="Adam's learning rate.")
    anneal_epochs: int = Field(
        0, ge=0, description="The weight β of the KL rises linearly from 0 to 1 over this many epochs."
    )
    decay_epochs: int = Field(
        0, ge=0, description="The learning rate falls linearly to 0 over the last this many epochs."
    )
    checkpoint_seconds: float = Field(60.0, ge=0, description="How often a checkpoint is written.")
