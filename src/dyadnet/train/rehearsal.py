"""A rehearsal: whatever can be refused is refused before a run folder is made, or an old one emptied."""

from dyadnet import data, names
from dyadnet.names import RequestError
from dyadnet.train.loop import prepare, step, training_batches
from dyadnet.train.plan import choose
from dyadnet.train.run import Request, summary_writer


def rehearse(request: Request, dataset: data.Dataset) -> None:
    """Set a run up, take its first step, and throw it away.

    Raises:
        RequestError: if the parts do not fit together: the network and the data, the rule and the network, the
            optimiser and the gradients; or something that the run needs is not to be had.
    """
    if request.settings.tensorboard:
        summary_writer()
    try:
        training = prepare(request.settings, request.rule, request.seed, dataset)
        training.net.train()
        step(training, *next(training_batches(training))).loss.item()
    except (RequestError, data.DataError):
        raise
    except (ValueError, TypeError, RuntimeError, AssertionError) as error:
        settings = request.settings
        network = choose(settings, names.rule(request.rule)).network
        raise RequestError(
            f"{request.rule} cannot train {network} on {settings.dataset} with {settings.optimizer}: "
            f"{str(error).splitlines()[0]}"
        ) from error
