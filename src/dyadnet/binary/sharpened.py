"""What methods have in common whose weights sharpen over training: `B` grows by equal factors from 1."""

from dataclasses import dataclass

from dyadnet.binary.course import Course, geometric
from dyadnet.binary.method import AbstractMethod
from dyadnet.bounds import bounded, positive


@dataclass(frozen=True)
class AbstractSharpened(AbstractMethod):
    """A method with a sharpness `B`.

    Args:
        sharpest: what `B` grows to.
        anneal: the share of training over which it does.
    """

    sharpest: float = 1000.0
    anneal: float = 0.9

    def __post_init__(self) -> None:
        positive(sharpest=self.sharpest)
        bounded("", 0, 1, anneal=self.anneal)

    def sharpness(self, course: Course) -> float:
        """Return `B` at a place of training."""
        return geometric(1.0, self.sharpest, course.share, self.anneal)
