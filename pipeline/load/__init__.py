"""Training time: reads committed datasets. Imports no Beam, no tensorflow_transform, no tfx_bsl."""

from .dataset import Dataset as Dataset
from .dataset import SplitInfo as SplitInfo
from .dataset import open_dataset as open_dataset
from .order import Order as Order
from .order import State as State
