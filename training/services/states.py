"""States of a stage as the pages tell them, besides the statuses of its run."""

LATER = "waiting"  # the stages before it are not through yet
LEFT_OUT = "left_out"
LOST = "lost"  # it is running, says its row, but its worker is silent
