"""Named sample inputs of every operator, shared by all tests of values and gradients."""

from cases import ensembles, representation, transport
from cases.case import Case

__all__ = ["CASES", "Case"]

CASES = [*representation.CASES, *transport.CASES, *ensembles.CASES]
