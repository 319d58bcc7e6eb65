"""The README: its Python examples run as they stand; test_docs.py has the rest."""

from documents import README, examples, run_examples


def test_the_examples_run() -> None:
    assert len(examples(README)) == 2
    assert run_examples(README)["plan"].shape == (4, 30, 40)
