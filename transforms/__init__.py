"""What can be done to an example. No Beam, no I/O: values in, values out.

Users import the modules: `from penstock.transforms import image`; and `keep` and `touches`, for examples of any kind.
"""

from .declare import touches as touches
from .outcome import keep as keep
