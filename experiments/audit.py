"""Thesis table 2.1 for every rule of the library, observed on the running code.

    python experiments/audit.py

Each rule on the network that it needs, of two hidden layers, with a few of the bundled digits and the squared error, as
`dyadnet audit` looks at it.
"""

from common import RESULTS

from dyadnet import names
from dyadnet.train.auditing import SETTINGS, audit
from dyadnet.train.environment import environment
from dyadnet.train.folder import write_json
from dyadnet.train.run import load_dataset


def main() -> None:
    """Audit and store."""
    dataset = load_dataset(SETTINGS)
    records = [audit(rule, SETTINGS, 0, dataset) for rule in names.RULES]
    write_json(RESULTS / "audit.json", {"name": "audit", "environment": environment(), "records": records})


if __name__ == "__main__":
    main()
