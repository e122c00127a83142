"""Methods over several seeds from one start, and whether they can be told apart."""

from .comparison import compare
