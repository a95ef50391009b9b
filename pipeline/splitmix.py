"""SplitMix64 (Steele, Lea and Flood 2014), vectorized: pseudo-random 64-bit integers, the same on every machine."""

import numpy as np
import numpy.typing as npt

GOLDEN_GAMMA = 0x9E3779B97F4A7C15  # 2**64 divided by the golden ratio: the generator's states are multiples of it


def mix64(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """SplitMix64's finalizer: a bijection in which each bit of the result depends on each bit of the value.

    Args:
      values: uint64, of any shape but (): NumPy warns of scalars that wrap around.
    """
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))
