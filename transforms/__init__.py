"""What can be done to an example. No Beam, no I/O: values in, values out.

Users import the modules: `from penstock.transforms import image`; and `keep`, which works on examples of any kind.
"""

from .outcome import keep as keep
