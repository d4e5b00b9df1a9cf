"""How a stage may end other than well. The exit code tells the supervisor what to do next."""

DONE = 0


class EngineExit(Exception):
    """A stage ends here on purpose, with `code` as the exit status and a sentence for a person."""

    code: int


class Interrupted(EngineExit):
    """Stopped on request with everything saved: run me again."""

    code = 75


class FenceLost(EngineExit):
    """Another attempt owns the run now: nothing more may be written."""

    code = 76


class InvalidInput(EngineExit):
    """No retry can help before a person has changed the input."""

    code = 77


class NeedsPerson(EngineExit):
    """The machine is not able to go on (disk full): the same run can go on afterwards."""

    code = 78


class Diverged(EngineExit):
    """The numbers went wrong; the same input would go wrong again."""

    code = 79
