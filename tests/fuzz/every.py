"""Everything that is fuzzed; a new module of targets is one more term of the sum."""

from tests.fuzz.requests import REQUESTS
from tests.fuzz.tables import TABLES
from tests.fuzz.targets import TARGETS, Target

EVERY: list[Target] = TARGETS + TABLES + REQUESTS
