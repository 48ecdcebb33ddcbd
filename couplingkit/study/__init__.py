"""Probes, photos x backbones -> rates, maps, scores: the only layer that sees probes, features and metrics at once."""

from .affinity import AffinityMaps as AffinityMaps
from .affinity import ProbeMaps as ProbeMaps
from .affinity import Query as Query
from .affinity import affinity_maps as affinity_maps
from .affinity import map_arrays as map_arrays
from .affinity import probe_maps as probe_maps
from .affinity import probe_query as probe_query
from .localizing import Localization as Localization
from .localizing import ObjectQuery as ObjectQuery
from .localizing import compare_localization as compare_localization
from .localizing import draw_queries as draw_queries
from .localizing import localize as localize
from .measuring import measure as measure
from .measuring import measure_layers as measure_layers
from .measuring import measure_variants as measure_variants
from .photo_features import CellMap as CellMap
from .photo_features import PhotoFeatures as PhotoFeatures
from .photo_features import read_photos as read_photos
from .processes import ALONE as ALONE
from .processes import Processes as Processes
from .processes import join_processes as join_processes
from .processes import leave_processes as leave_processes
from .record import Measurement as Measurement
from .record import compare as compare
from .rows import ROW_COLUMNS as ROW_COLUMNS
from .rows import Parts as Parts
