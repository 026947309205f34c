"""All settings of a training run, written once: the command line, the TOML file and `config.json` come from here."""

import dataclasses
import types
from dataclasses import dataclass
from math import inf
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from dyadnet.names import RequestError
from dyadnet.network.dense import Structure
from dyadnet.train.models import ActivationName, Initialisation, NetworkName

LossName = Literal["cross-entropy", "squared-error"]
BinaryLayers = Literal["all", "not-first", "not-last", "inner"]


@dataclass(frozen=True)
class Settings:
    """How to train a network; `plan.choose` decides what the rule needs where nothing is said."""

    dataset: str = "digits"
    """digits, mnist, fashion-mnist, cifar10, cifar100, or an .npz file with x_train, y_train, x_test, y_test."""
    data_root: str | None = None
    """Where the data already lies; without it, $DYADNET_DATA or a download into the user's cache."""
    train_samples: int | None = None
    """Use only the first so many training samples."""
    test_samples: int | None = None
    """Use only the first so many test samples."""
    validation: float = 0.0
    """Share of the training samples to hold out; the result is then that of the epoch that was best on them."""
    normalise: bool = False
    """Shift and scale every channel to mean 0 and deviation 1; otherwise inputs lie in [0, 1]."""
    augment: bool = False
    """Random crops (4 pixels of padding) and horizontal flips."""
    network: NetworkName | None = None
    """mlp, cnn, vgg, vgg16, resnet18, hopfield (with feedback), lifted, dense or resistive; what the rule needs."""
    lam: float | None = None
    """Feedback of a layered network: 0 skew-symmetric, 0.5 feedforward, 1 symmetric; what the rule needs by default."""
    structure: Structure | None = None
    """Connections of the dense network; symmetric for rules that need an energy, else free."""
    hidden: tuple[int, ...] = (128, 128)
    """Widths of the hidden linear layers (vgg16 has its own); a dense network has as many hidden units in all."""
    activation: ActivationName | None = None
    """Of every hidden layer; relu, or with feedback hard-sigmoid. Neurons of sign have two values, -1 and 1."""
    batch_norm: bool | None = None
    """Normalise every map's output over the batch, logits too, in the place of biases (feedforward networks)."""
    init: Initialisation | None = None
    """How weights are drawn: zero biases but for torch; he, lecun or torch with feedback, orthogonal if lifted."""
    loss: LossName | None = None
    """One value a sample; cross-entropy, or with feedback squared-error against one-hot rows."""
    feedback: str | None = None
    """How errors travel down: random:seed=0, sign-symmetric, kolen-pollack, direct, mismatched; else the transpose."""
    terms: str | None = None
    """The energy of a lifted network: gamma=0.1,tied=true,output_reconstructs=false; info lists them all."""
    circuit: str | None = None
    """Of a resistive network: input_gain=200,gain=4,current_gain=0.25; info lists all its settings."""
    output_gain: float | None = None
    """What the output of a lifted network is multiplied with: its Lipschitz constant, if its output reconstructs."""
    pretrain_epochs: int | None = None
    """So many of the epochs of lrrn learn to reconstruct, without labels, before the others are supervised."""
    order: str | None = None
    """How layers take turns to relax: odd-even, sweeps, bottom-up, random-order or (dense by default) parallel."""
    solver: str | None = None
    """How far they go at a turn: plain, damped:factor=0.5, over-relaxed or anderson:memory=8 (simultaneous layers)."""
    tolerance: float | None = None
    """The largest change still to come, relative to the states, that counts as settled; 1e-3, or less."""
    most_passes: int | None = None
    """Passes after which a relaxation ends unsettled; 200 by default."""
    iterations: int | None = None
    """Exactly so many passes instead, settled or not."""
    optimizer: str = "adam"
    """Any optimiser of torch.optim with its settings: sgd:momentum=0.9,weight_decay=5e-4 or adam:betas=0.8/0.99."""
    coupling_decay: float | None = None
    """Weight decay of the connections between units alone, so that states go on settling (adamw decays decoupled)."""
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
    binary: str | None = None
    """Train weights of -1 and 1: adaste:alpha=0.01, ste, binary-connect and others; info lists them."""
    binary_layers: BinaryLayers | None = None
    """Which weights are binary: all by default, or not those of the first or the last layer, or only inner ones."""
    binary_scale: Literal["channel"] | None = None
    """What stands for a weight of 1: 1, or the mean size of the initial weights of every output channel."""
    hardware: str | None = None
    """Train on an imperfect circuit: reram, pcm, capacitor or optical, or ideal:reading.noise=1e-3,synapses.bits=4."""
    clip: float | None = None
    """Largest norm of the gradient over all parameters."""
    epochs: int = 20
    """How often to see the training set."""
    batch_size: int = 100
    """Samples a step."""
    carry_states: bool = False
    """Start each batch of an epoch from the states that the one before reached (paper C's corrupted states)."""
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
        for name in ("learning_rate", "clip", "decay_epochs", "tolerance", "output_gain"):
            value = getattr(self, name)
            _check(name, value is None or 0 < value < inf, "must be a positive number", value)
        for name in ("warmup_epochs", "warmup_start", "final_learning_rate", "align_every"):
            _check(name, 0 <= getattr(self, name) < inf, "must be zero or a positive number", getattr(self, name))
        _check("coupling_decay", 0 <= (self.coupling_decay or 0) < inf, "must be zero or positive", self.coupling_decay)
        for name in ("most_passes", "iterations"):
            value = getattr(self, name)
            _check(name, value is None or value >= 1, "must be at least 1", value)
        pretrain = self.pretrain_epochs
        _check("pretrain_epochs", 0 <= (pretrain or 0) < self.epochs, f"must lie in [0, {self.epochs})", pretrain)
        _check("lam", self.lam is None or 0 <= self.lam <= 1, "must lie in [0, 1]", self.lam)
        if self.iterations is not None and self.most_passes is not None:
            raise RequestError("iterations makes a fixed number of passes: leave most-passes out")
        _check("validation", 0 <= self.validation < 1, "must lie in [0, 1)", self.validation)
        _check("hidden", min(self.hidden, default=1) >= 1, "must hold positive widths", self.hidden)
        end = self.epochs if self.decay_epochs is None else self.decay_epochs
        rising = self.decay == "cosine" and self.warmup_epochs >= end
        _check("warmup_epochs", not rising, f"must be below {end:g}, where the cosine ends", self.warmup_epochs)


def _check(name: str, good: bool, rule: str, value: object) -> None:
    if not good:
        raise RequestError(f"{name.replace('_', '-')} {rule}, not {value}")


_UNIONS = (Union, types.UnionType)  # a union with a Literal is of the former kind


def _fits(value: object, hint: Any) -> bool:
    """Whether a value is of a field's type; a whole number will do for a float."""
    if get_origin(hint) is Literal:
        return value in get_args(hint)
    if get_origin(hint) in _UNIONS:
        return any(_fits(value, kind) for kind in get_args(hint))
    if get_origin(hint) is tuple:
        return isinstance(value, tuple) and all(_fits(item, get_args(hint)[0]) for item in value)
    if hint in (int, float):
        return isinstance(value, int | hint) and not isinstance(value, bool)
    return isinstance(value, hint)


def _kind(hint: Any) -> str:
    """Say in words what a field takes.

    >>> _kind(int | None), _kind(Literal["a", "b"])
    ('a whole number or nothing', 'a or b')
    """
    if get_origin(hint) in (Literal, *_UNIONS):
        return " or ".join(kind if isinstance(kind, str) else _kind(kind) for kind in get_args(hint))
    if get_origin(hint) is tuple:
        return "a list of whole numbers"
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    return words.get(hint, "nothing")


def from_dict(values: dict[str, object]) -> Settings:
    """Read settings back, as from `config.json`.

    >>> from_dict({"epochs": 3, "hidden": [64]}).hidden
    (64,)

    Raises:
        RequestError: for a name that is no setting, or a value that it cannot take.
    """
    unknown = sorted(set(values) - {field.name for field in dataclasses.fields(Settings)})
    if unknown:
        raise RequestError(f"{unknown[0]!r} is not a setting; see dyadnet train --help")
    given: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}
    hints = get_type_hints(Settings)
    for name, value in given.items():
        _check(name, _fits(value, hints[name]), f"must be {_kind(hints[name])}", repr(values[name]))
    return Settings(**given)
