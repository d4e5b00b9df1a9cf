from training.models.adoptions import Adoption
from training.models.downloads import Download
from training.models.examinations import Examination
from training.models.model_versions import ModelVersion
from training.models.probes import Probe
from training.models.promotions import Promotion
from training.models.questions import Answer, Question
from training.models.results import Result
from training.models.rounds import Round
from training.models.runs import SILENT_AFTER, Run
from training.models.samples import Sample, SentSample
from training.models.settings import TrainingSettings
from training.models.simulations import Simulation
from training.models.snapshots import Snapshot
from training.models.transitions import IllegalMove, LostRace, note
from training.models.workers import Worker

__all__ = [
    "SILENT_AFTER",
    "Adoption",
    "Answer",
    "Download",
    "Examination",
    "IllegalMove",
    "LostRace",
    "ModelVersion",
    "Probe",
    "Promotion",
    "Question",
    "Result",
    "Round",
    "Run",
    "Sample",
    "SentSample",
    "Simulation",
    "Snapshot",
    "TrainingSettings",
    "Worker",
    "note",
]
