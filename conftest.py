"""Annotations hold in all tests: beartype looks at every call, and jaxtyping at shapes where these are annotated.

Jaxtyping's own hook for all modules would make the tests twice as slow.
"""

from beartype import BeartypeConf
from beartype.claw import beartype_package
from jaxtyping import install_import_hook

SHAPED = ["dyadnet.loss", "dyadnet.network.linearisation", "dyadnet.network.linearise", "dyadnet.network.closed_forms"]
"""Modules with shapes in their annotations."""

beartype_package("dyadnet", conf=BeartypeConf(is_pep484_tower=True, violation_type=TypeError))
install_import_hook(SHAPED, "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))")
