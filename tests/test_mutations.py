"""The deliberate bugs can be applied; `python tests/mutations.py` shows that the tests catch them."""

import pytest
from mutations import MUTATIONS, SOURCE, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_the_text_to_be_replaced_occurs_once(mutation: Mutation):
    assert (SOURCE / "dyadnet" / mutation.file).read_text().count(mutation.old) == 1
    assert mutation.new != mutation.old


def test_names_tell_the_mutations_apart():
    assert len({mutation.name for mutation in MUTATIONS}) == len(MUTATIONS)
