"""Studies: train with and without smoothing and its rivals, and say what helped, by how much, and how sure that is."""

from labelsmooth.study.cluster import RayCluster
from labelsmooth.study.config import StudyConfig
from labelsmooth.study.executor import Executor, Workers
from labelsmooth.study.records import StudyRecord, load_study
from labelsmooth.study.run import ShardResult, merge_study, merge_sweep, run_shard, run_study, run_sweep
from labelsmooth.study.sweep import SweepRecord, load_sweep

__all__ = [
    "Executor",
    "RayCluster",
    "ShardResult",
    "StudyConfig",
    "StudyRecord",
    "SweepRecord",
    "Workers",
    "load_study",
    "load_sweep",
    "merge_study",
    "merge_sweep",
    "run_shard",
    "run_study",
    "run_sweep",
]
