"""Names that people can say, and ids that sort by time.

A run's id is a UUID version 8 (RFC 9562, section 5.8): 48 bits of the process's start in milliseconds, 12 and 16
random bits, and a counter. Taking the next one costs a tenth of `uuid.uuid4`, which matters at five microseconds a
task, and ids of one process sort by creation.
"""

from __future__ import annotations

import itertools
import os
import random  # noqa: TID251 (friendly names are drawn here)
import time  # noqa: TID251 (the process's start is part of every id)
from collections.abc import Callable
from uuid import UUID

__all__ = ("friendly_name", "next_id", "to_text", "to_uuid")


def _fresh_counter() -> Callable[[], int]:
    start = int(time.time() * 1000) & (2**48 - 1)
    noise = int.from_bytes(os.urandom(4), "big")
    high = (start << 80) | (8 << 76) | ((noise & 0xFFF) << 64) | (2 << 62) | ((noise >> 12 & 0xFFFF) << 46)
    return itertools.count(high).__next__


_next = _fresh_counter()


def next_id() -> int:
    """The next id, as the integer that `to_uuid` makes a UUID of."""
    return _next()


def to_uuid(key: int) -> UUID:
    """The UUID that an id stands for."""
    return UUID(int=key)


def to_text(key: int) -> str:
    """What ``str(to_uuid(key))`` gives, without the detour."""
    digits = f"{key:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _after_fork() -> None:
    global _next
    _next = _fresh_counter()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)

_ADJECTIVES = (
    "amber ample azure brave brisk calm candid clear coral cosmic crisp daring deft eager early fair fleet fond frank "
    "fresh gentle glad golden grand hardy hazel humble ivory jade jolly keen kind lively loyal lucid lunar mellow "
    "merry "
    "mild misty modest neat noble olive placid polite prime proud quick quiet rapid rosy royal rustic sage scarlet "
    "serene sharp silver simple sleek solar solid spry stable steady still stout sunny swift tidy tranquil true upbeat "
    "vast vivid warm wise witty zesty"
).split()
_NOUNS = (
    "albatross antelope badger beaver bison bobcat buffalo camel cheetah condor cormorant coyote crane cricket curlew "
    "deer dolphin dove dragonfly eagle egret elk falcon ferret finch firefly fox gazelle gecko goose grouse gull hare "
    "harrier hawk heron hornet horse ibex ibis iguana jackal jaguar jay kestrel kingfisher koala lark lemur leopard "
    "lion lizard llama lynx magpie marlin marmot marten meerkat merlin mole moose narwhal newt nightjar ocelot orca "
    "oriole osprey otter owl panda panther parrot pelican penguin petrel pheasant plover puffin puma quail rabbit "
    "raven robin salmon seal shrike sparrow squirrel starling stork sturgeon swallow swan swift tapir tern thrush "
    "tiger toucan trout turtle viper walrus weasel whale wolf wombat wren yak zebra"
).split()


def friendly_name() -> str:
    """A name like ``amber-falcon``; good enough to talk about a run, not an identity."""
    return f"{random.choice(_ADJECTIVES)}-{random.choice(_NOUNS)}"
