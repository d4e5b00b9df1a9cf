"""Which prompts are held out: decided once per group, by a hash that gives the same answer on every machine."""

from __future__ import annotations

import hashlib

from annotate.models.prompts import Split


def split_of(group: str, heldout_share: float) -> Split:
    """The split of every prompt of `group`; `heldout_share` (0 to 1) of all groups are held out."""
    digest = hashlib.sha256(group.encode()).digest()
    fraction = int.from_bytes(digest[:8], "big") / 2**64
    return Split.HELDOUT if fraction < heldout_share else Split.TRAIN
