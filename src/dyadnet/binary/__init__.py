"""Binary weights: optimisers that train them, and files that hold one bit a weight."""

from dyadnet.binary.files import load, save
from dyadnet.binary.pack import pack

__all__ = ["load", "pack", "save"]
