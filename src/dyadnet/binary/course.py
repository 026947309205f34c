"""How far training has come: what annealing schedules are functions of, so that they need no memory of their own."""

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Course:
    """The length of training, and the place reached in it.

    Attributes:
        steps: the updates of the whole training.
        epoch: the updates of an epoch.
        samples: the training samples.
        done: the updates made so far.

    Raises:
        ValueError: for a length that is not positive.

    >>> course = Course(steps=100, epoch=10, done=25)
    >>> course.share, course.number
    (0.25, 3)
    """

    steps: int
    epoch: int = 1
    samples: int = 1
    done: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "epoch", "samples"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}")

    @property
    def share(self) -> float:
        """The share of all updates that has been made."""
        return min(1.0, self.done / self.steps)

    @property
    def number(self) -> int:
        """The number of the epoch that the next update belongs to, from 1."""
        return self.done // self.epoch + 1

    def onward(self) -> "Course":
        """Return the place one update on."""
        return replace(self, done=self.done + 1)


def geometric(start: float, end: float, share: float, over: float) -> float:
    """Return what goes from `start` to `end` by equal factors over the first `over` of training, and stays there.

    >>> [geometric(1.0, 100.0, share, over=0.5) for share in (0.0, 0.25, 0.5, 1.0)]
    [1.0, 10.0, 100.0, 100.0]
    """
    return end if share >= over else start * (end / start) ** (share / over)
