"""Probes x backbones -> rates: the only layer that sees probes, features and metrics at once."""

from .measuring import measure as measure
from .measuring import measure_layers as measure_layers
from .record import ROW_COLUMNS as ROW_COLUMNS
from .record import Measurement as Measurement
from .record import compare as compare
