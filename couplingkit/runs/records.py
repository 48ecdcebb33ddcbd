"""What a run is and what its summary.json says: the records that writing and reading share."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from ..metrics.bootstrap import Estimate
from ..study.measurement import Measurement
from ..typed_files import Count, Digest, Record

__all__ = ["COUPLING", "FORMAT", "ROWS", "SUMMARY", "VERSION", "PairedDifference", "Run", "SummaryFile"]

SUMMARY, ROWS, PROBES = "summary.json", "rows.csv", "probes.json"
# Within the folder of an evaluation: a run of `measure` of the same networks.
COUPLING = "coupling"
FORMAT, VERSION = "couplingkit run", 3


@dataclass(frozen=True)
class PairedDifference:
    """A quantity of one model minus that of another, over the probes that both measured.

    `below` says that it is below the resolution of the arithmetic, and so says nothing.
    """

    first: str
    second: str
    quantity: str
    estimate: Estimate
    probes: int
    below: bool = False


@dataclass(frozen=True)
class Run:
    """What several models gave on one set of probes, or along axes of its look.

    Attributes:
        measurements: of each model and, in a sweep, of each value; the row of `control:cell` last.
        places: axis and value of each measurement; None each where nothing was swept.
        failures: a sentence for each model that failed.
        differences: of each model to the first.
        held: of a sweep, what stays where it is not swept.
        command: that made it.
        identity: everything that decides its numbers, as JSON values.
        folder: where it lies; None where it was not written.
        fresh: whether it was measured just now, or read back whole.
    """

    measurements: tuple[Measurement, ...]
    places: tuple[tuple[str, Any] | None, ...] = ()
    failures: tuple[str, ...] = ()
    differences: tuple[PairedDifference, ...] = ()
    held: str = ""
    command: str = ""
    identity: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None
    fresh: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "measurements", tuple(self.measurements))
        object.__setattr__(self, "places", tuple(self.places) or (None,) * len(self.measurements))

    @property
    def swept(self) -> bool:
        """Whether it is a sweep."""
        return any(place is not None for place in self.places)

    @property
    def title(self) -> str:
        """What pages call it: the name of its folder."""
        if self.folder is None:
            return "run"
        place = self.folder.absolute()
        # What `evaluate` measured lies in its own folder, whose name its user chose.
        return f"{place.parent.name}/{place.name}" if place.name == COUPLING else place.name


class EstimateEntry(Record, frozen=True):
    """A value with its interval; null where it is not defined."""

    value: float | None
    low: float | None
    high: float | None

    @classmethod
    def of(cls, estimate: Estimate) -> EstimateEntry:
        """Return an estimate as JSON has it."""
        value, low, high = (part if math.isfinite(part) else None for part in vars(estimate).values())
        return cls(value=value, low=low, high=high)

    def estimate(self) -> Estimate:
        """Return it as numbers."""
        return Estimate(*(math.nan if part is None else part for part in (self.value, self.low, self.high)))


class CountsEntry(Record, frozen=True):
    """How many probes were made, and how many of them were measured."""

    made: Count
    measured: Count
    not_measurable: Count


class ModelFacts(Record, frozen=True):
    """What every model's provenance has; it may have more."""

    name: str
    channels: Count
    stride_px: Annotated[int, Meta(ge=1)]
    image_size: tuple[Annotated[int, Meta(ge=1)], Annotated[int, Meta(ge=1)]]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    precision: str
    device: str


class ProbesEntry(Record, frozen=True):
    """Which probes a model was shown."""

    name: str
    count: Count
    seed: Count
    spec: dict[str, Any]
    eligibility: dict[str, Any]
    annotations: str
    annotations_sha256: Digest
    images: str
    eligible_objects: Count
    dropped: dict[str, Count]
    identity: Digest
    fingerprint: Digest | None


class ControlsEntry(Record, frozen=True):
    """What the controls found."""

    probes: Count
    other_batch_rad: Annotated[float, Meta(ge=0)]
    aligned: Annotated[float, Meta(ge=-1.001, le=1.001)]
    offset_cells: Annotated[float, Meta(ge=0)]


class ProvenanceEntry(Record, frozen=True):
    """What is needed to measure the same again."""

    model: dict[str, Any]
    probes: ProbesEntry
    settings: dict[str, Any]
    controls: ControlsEntry
    versions: dict[str, str]


class ModelEntry(Record, frozen=True, omit_defaults=True):
    """One model, or one model at one value of an axis."""

    name: str
    statistics: dict[str, EstimateEntry]
    level: Annotated[float, Meta(ge=0.5, le=0.999)]
    probes: CountsEntry
    source_images: Count
    warnings: list[str]
    provenance: ProvenanceEntry
    doubts: dict[str, list[str]] = msgspec.field(default_factory=dict)
    axis: Literal["gap", "visible", "canvas", "object_size", "layer"] | None = None
    value: int | float | str | None = None


class DifferenceEntry(Record, frozen=True):
    """A paired difference that the run itself states."""

    statistic: str
    first: str
    second: str
    value: float | None
    low: float | None
    high: float | None
    probes: Count
    below_resolution: bool


class SummaryFile(Record, frozen=True):
    """summary.json of a run."""

    format: str
    version: int
    command: str
    models: Annotated[list[ModelEntry], Meta(min_length=1)]
    differences: list[DifferenceEntry]
    failures: list[str]
    run: dict[str, Any]
    held: str
