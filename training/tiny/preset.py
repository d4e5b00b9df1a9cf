"""The sizes of the tiny model's world. How its stages train is the tiny preset, in training/presets.py."""

HELDOUT_SHARE = 0.25  # of the phrasings: 268, which no training data contains
CORPUS_SIZE = 18_000  # conversations
DEMONSTRATIONS = 150  # that people write before the first round
SLATES_PER_ROUND = 600
SIMULATED_K = 9  # answers in a set that simulated people rank: they do not tire as people do
# The demo project, in which people rank, too: sets that one reads in half a minute, and enough of them for a round.
DEMO_K = 4
DEMO_SLATES = 360
