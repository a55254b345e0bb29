"""The tables of a declaration (`mvae.runs.config`): each setting with its range, default and one sentence."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from mvae.training.settings import MOST

__all__ = [
    "CovariateSettings",
    "DataSettings",
    "EvaluationSettings",
    "FieldSettings",
    "ModalitySettings",
    "ModelSettings",
    "Section",
]

Spec = str | dict[str, Any]
MOST_VALUES = 100_000_000  # the most values of one example
Size = Annotated[int, Field(ge=1, le=MOST_VALUES)]
Share = Annotated[float, Field(gt=0, lt=1)]


class Section(BaseModel):
    """One table of the file: values are immutable, unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class DataSettings(Section):
    """Where the rows come from, and which are trained on."""

    source: str | list[str] = Field(
        description="A table (.csv, .parquet, .xlsx …), arrays (.npz), several files, or a dataset such as digits."
    )
    key: str | None = Field(default=None, description="Column that identifies a row; several files are joined by it.")
    missing: list[str | int | float] = Field(
        default=[], description="Cells of a table that mean missing, besides empty ones, NaN and null."
    )
    options: dict[str, Any] = Field(default={}, description="Options of a named dataset's reader.")
    validation: Share = Field(default=0.1, description="Share of a file's rows that select the weights.")
    test: Share = Field(default=0.1, description="Share of a file's rows that are kept for evaluation.")
    rows: int | None = Field(default=None, ge=1, description="Train only on the first N rows.")
    paired_fraction: float | None = Field(
        default=None, ge=0, le=1, description="Hide one of two modalities in all rows but this share (Sec. 5.1)."
    )
    keep_probability: float | None = Field(
        default=None, gt=0, le=1, description="Keep each value of the training rows with this probability (App. F)."
    )
    spread: dict[str, str] = Field(
        default={}, description="Modality to the directory of a trained run: known values spread to rows similar there."
    )
    oversample: int = Field(default=1, ge=1, le=1_000_000, description="How often each complete row occurs per epoch.")

    @field_validator("source")
    @classmethod
    def _not_empty(cls, value: str | list[str]) -> str | list[str]:
        if not value or not all(value):
            raise ValueError("a name or a file needs at least 1 character")
        return value

    @property
    def sources(self) -> list[str]:
        """The files, or the one dataset."""
        return [self.source] if isinstance(self.source, str) else list(self.source)


class FieldSettings(Section):
    """One column of a modality of the kind columns (`mvae.data.fields.Field`)."""

    name: str | None = Field(default=None, description="Name of the column.")
    kind: str = Field(
        default="real", description="real, positive, bounded, date, count, binary, categorical or ordinal."
    )
    classes: int | None = Field(default=None, ge=2, description="Number of classes. Default: the data's.")
    low: float | None = Field(default=None, description="The least value of a bounded column.")
    high: float | None = Field(default=None, description="The largest value of a bounded column.")
    levels: list[str | int | float] | None = Field(
        default=None, description="Levels of an ordinal column in order. Default: by size, for text by alphabet."
    )
    family: str | None = Field(default=None, description="Family of p(x | z), as student for real. Default: by kind.")


class ModalitySettings(Section):
    """One modality: what its columns hold, its networks and its likelihood."""

    kind: str | None = Field(
        default=None,
        description="For arrays real, count, binary, categorical or picture; for a table also columns, positive, "
        "bounded, ordinal, date or text; for a shipped dataset also string or sentence. Default: the data's.",
    )
    columns: list[str] | None = Field(
        default=None, description="Its columns in the source. Default: the one with its name."
    )
    kinds: dict[str, str | FieldSettings] = Field(
        default={}, description="For the kind columns: the kind of each column. Default: the data's."
    )
    fields: list[FieldSettings] = Field(
        default=[], description="For the kind columns: what each column is, in order; completed from the data."
    )
    shape: list[Size] | None = Field(default=None, description="Shape of one example. Default: the data's.")
    classes: int | None = Field(
        default=None, ge=2, le=MOST_VALUES, description="Number of classes. Default: the data's."
    )
    levels: float | None = Field(
        default=None, gt=0, description="The brightest level of a picture: 255 for bytes, else 1."
    )
    length: int | None = Field(
        default=None, ge=1, le=MOST_VALUES, description="The most symbols of a string, or words (and a stop) of a text."
    )
    encoder: Spec | None = Field(
        default=None, description="A network by name, or {network = NAME, …}. Default: by kind."
    )
    decoder: Spec | None = Field(default=None, description="As for encoder.")
    likelihood: Spec | None = Field(default=None, description="By name, or {name = NAME, …}. Default: by kind.")
    weight: float = Field(default=1.0, ge=0, description="λ: the weight of its reconstruction (Eq. 2).")
    augment: list[Spec] = Field(default=[], description="Augmentations of the encoder's input in training, by name.")
    linear_start: bool = Field(
        default=False, description="For the kind columns: the encoder corrects the posterior of a linear model."
    )
    view: Spec | None = Field(default=None, description="A fixed transformation of what the encoder sees, by name.")
    standardise: bool = Field(default=True, description="Learn real values in standard deviations from their mean.")
    class_weights: list[float] | None = Field(
        default=None, description="Factor of the weight for examples of each class, in the order of classes."
    )


class CovariateSettings(Section):
    """A column that networks are conditioned on (`mvae.Covariate`)."""

    kind: Literal["categorical", "real"] | None = Field(default=None, description="Default: by the data.")
    categories: list[str] | list[int] | None = Field(
        default=None, description="In the order of their codes. Default: the training rows'."
    )
    unknown: bool = Field(
        default=False, description="May a row be without it, or have an unseen category? Then training needs such rows."
    )
    features: int = Field(default=1, ge=1, description="Number of values per row of a real covariate.")


class ModelSettings(BaseModel):
    """The model; further keys are options of that model's class."""

    model_config = ConfigDict(extra="allow", frozen=True, strict=True, allow_inf_nan=False)

    name: str = Field(default="mvae", description="A model by name: mvae, jmvae, mmvae, mopoe …")
    latents: int = Field(default=32, ge=1, le=100_000, description="The number of latents.")
    modalities: list[str] | None = Field(
        default=None, min_length=1, description="The modalities that it models, in order. Default: all declared."
    )

    @property
    def options(self) -> dict[str, Any]:
        """The model's own options."""
        return dict(self.model_extra or {})


class EvaluationSettings(Section):
    """How the trained model is scored and shown."""

    samples: int = Field(default=1000, ge=2, le=MOST, description="Importance samples per row.")
    denominator_samples: int | None = Field(
        default=None,
        ge=2,
        le=MOST,
        description="Draws for the denominator of a conditional likelihood. Default: chosen by what is given.",
    )
    rows: int | None = Field(default=None, ge=1, description="Score only the first N test rows. Default: all.")
    show: list[str] = Field(
        default=[], description="What is given in the picture of a run, as MODALITY=VALUE, one per row of the picture."
    )
