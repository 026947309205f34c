"""Audits of named rules: each on the network that it needs, with a handful of samples."""

import warnings
from dataclasses import replace
from typing import Any

from dyadnet import data, names
from dyadnet.audit.observe import observe
from dyadnet.names import RequestError
from dyadnet.relax.relaxation import NotSettledWarning
from dyadnet.train.loop import prepare, training_batches
from dyadnet.train.plan import fitted
from dyadnet.train.settings import Settings

SAMPLES = 8
SETTINGS = Settings(hidden=(16, 12), loss="squared-error")
"""What is audited where nothing is said: two hidden layers, and a loss that lets outputs alone."""


def audit(rule: str, settings: Settings, seed: int, dataset: data.Dataset) -> dict[str, Any]:
    """Return the record of one rule: its name, the answers and their evidence.

    Args:
        rule: its name, with settings.
        settings: of the network and the data; those that the rule has no use for are left out.
        seed: of the weights.
        dataset: whose first training samples are taken.

    Raises:
        RequestError: if the rule cannot train the network.
    """
    named = names.rule(rule)
    try:
        few = replace(fitted(settings, named), batch_size=SAMPLES, augment=False)
        training = prepare(few, rule, seed, dataset)
        training.net.eval()
        x, y = next(training_batches(training))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotSettledWarning)
            found = observe(training.rule, training.net, training.loss, x.double(), y)
    except (ValueError, TypeError, RuntimeError) as error:
        if isinstance(error, RequestError):
            raise
        raise RequestError(f"{rule} cannot be audited here: {str(error).splitlines()[0]}") from error
    return {"rule": rule, "network": training.plan.network, "lam": training.plan.lam} | found.record()
