"""All settings of a training run, written once: the command line, the TOML file and `config.json` come from here."""

import dataclasses
from dataclasses import dataclass
from typing import Literal

from dyadnet.names import RequestError
from dyadnet.train.models import ActivationName, Initialisation, NetworkName


@dataclass(frozen=True)
class Settings:
    """How to train a network."""

    dataset: str = "digits"
    """digits, mnist, fashion-mnist, cifar10, cifar100, or an .npz file with x_train, y_train, x_test, y_test."""
    data_root: str | None = None
    """Where the data already lies; without it, $DYADNET_DATA or a download into the user's cache."""
    train_samples: int | None = None
    """Use only the first so many training samples."""
    test_samples: int | None = None
    """Use only the first so many test samples."""
    normalise: bool = False
    """Shift and scale every channel to mean 0 and deviation 1; otherwise inputs lie in [0, 1]."""
    augment: bool = False
    """Random crops (4 pixels of padding) and horizontal flips."""
    network: NetworkName = "mlp"
    """mlp, cnn, or the vgg16 of papers C and D."""
    hidden: tuple[int, ...] = (128, 128)
    """Widths of the hidden linear layers (vgg16 has its own)."""
    activation: ActivationName = "relu"
    """Of every hidden layer."""
    init: Initialisation = "he"
    """How weights are drawn: torch's defaults, or He, LeCun or Glorot with zero biases."""
    loss: Literal["cross-entropy", "squared-error"] = "cross-entropy"
    """One value a sample; squared error is against one-hot rows."""
    optimizer: str = "adam"
    """Any optimiser of torch.optim with its settings, as sgd:momentum=0.9,weight_decay=5e-4."""
    learning_rate: float = 1e-3
    """The highest learning rate of the run."""
    decay: Literal["constant", "cosine"] = "cosine"
    """How the learning rate goes on after the warm-up."""
    warmup_epochs: float = 0.0
    """Epochs of a linear rise to the highest learning rate."""
    warmup_start: float = 0.0
    """The learning rate that the warm-up starts from."""
    final_learning_rate: float = 0.0
    """The learning rate that the cosine ends at."""
    decay_epochs: float | None = None
    """When the cosine ends, warm-up included; the end of the run by default."""
    clip: float | None = None
    """Largest norm of the gradient over all parameters."""
    epochs: int = 20
    """How often to see the training set."""
    batch_size: int = 100
    """Samples a step."""
    carry_states: bool = False
    """Start each batch from the states that the one before reached (paper C's corrupted states)."""
    bf16: bool = False
    """Run the maps in bfloat16 under autocast; states stay in single precision."""
    device: str = "auto"
    """auto, cpu, cuda or another of torch's devices."""
    align_every: int = 1
    """Measure the agreement with backpropagation every so many epochs; 0 never."""
    align_samples: int = 100
    """On how many training samples that is measured."""
    tensorboard: bool = False
    """Write scalars for TensorBoard into the run folder (needs the package tensorboard)."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "align_samples"):
            _check(name, getattr(self, name) >= 1, "must be at least 1", getattr(self, name))
        for name in ("learning_rate",):
            _check(name, 0 < getattr(self, name) < float("inf"), "must be positive", getattr(self, name))
        for name in ("warmup_epochs", "warmup_start", "final_learning_rate", "align_every"):
            _check(name, getattr(self, name) >= 0, "must not be negative", getattr(self, name))
        for width in self.hidden:
            _check("hidden", width >= 1, "must hold positive widths", width)
        _check("clip", self.clip is None or self.clip > 0, "must be positive", self.clip)


def _check(name: str, good: bool, rule: str, value: object) -> None:
    if not good:
        raise RequestError(f"{name.replace('_', '-')} {rule}, not {value}")


def from_dict(values: dict[str, object]) -> Settings:
    """Read settings back, as from `config.json` or a TOML file.

    >>> from_dict({"epochs": 3, "hidden": [64]}).hidden
    (64,)

    Raises:
        RequestError: for a name that is no setting.
    """
    unknown = sorted(set(values) - {field.name for field in dataclasses.fields(Settings)})
    if unknown:
        raise RequestError(f"{unknown[0]!r} is not a setting; see dyadnet train --help")
    hidden = values.get("hidden", Settings.hidden)
    if not isinstance(hidden, list | tuple):
        raise RequestError(f"hidden must be a list of widths, not {hidden!r}")
    return Settings(**(values | {"hidden": tuple(hidden)}))  # pyright: ignore[reportArgumentType]
