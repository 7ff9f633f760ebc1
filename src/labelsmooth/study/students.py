"""The students of a study: their runs, and whether a smoothed teacher is better and its student worse."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Literal

from labelsmooth.metrics.numbers import lowered
from labelsmooth.study.config import StudyConfig
from labelsmooth.study.planned import STUDENT, student_of
from labelsmooth.study.records import Comparison, DistillationRecord, MethodRecord, StudyRecord
from labelsmooth.study.runs import Job
from labelsmooth.training.spec import Distillation, RunSpec

Jobs = dict[tuple[str, int], Job]  # by method and seed
ALONE = "Student's network alone"


def student_jobs(config: StudyConfig, jobs: Jobs, base: RunSpec, suffix: str) -> Jobs:
    """The runs of the students, and of their network trained without a teacher where it is not the teachers'.

    Args:
        config: of the study.
        jobs: those of its methods.
        base: of the students' network, as the baseline trains it.
        suffix: of the runs' titles.
    """
    students: Jobs = {}
    for seed in range(config.seed_count):
        own = dataclasses.replace(base, seed=seed, split_seed=jobs["plain", seed].spec.split_seed)
        if own != jobs["plain", seed].spec:
            students[STUDENT, seed] = Job(ALONE + suffix, own)
        for name in ("plain", config.teacher):
            teacher = jobs[name, seed]
            learned = Distillation(teacher.spec, config.distil_temperature, config.distil_weight)
            spec = dataclasses.replace(own, distillation=learned)
            students[student_of(name), seed] = Job(_student_title(teacher.title), spec)
    return students


def _student_title(teacher: str) -> str:
    return f"Student of {lowered(teacher)}"


def compared_students(config: StudyConfig, jobs: Jobs) -> tuple[str, ...]:
    """The student of the smoothed teacher, that of the plain one, and their network alone; empty without students."""
    if not config.distil:
        return ()
    return student_of(config.teacher), student_of("plain"), STUDENT if (STUDENT, 0) in jobs else "plain"


def distillation_record(config: StudyConfig, jobs: Jobs, titles: Mapping[str, str]) -> DistillationRecord | None:
    """What the students are, before any is compared; None without students.

    Args:
        config, jobs: of the study.
        titles: of its methods.
    """
    if not config.distil:
        return None
    smoothed, plain, alone = compared_students(config, jobs)
    spec = jobs[plain, 0].spec
    settings: dict[str, float | str] = {"temperature": config.distil_temperature, "weight": config.distil_weight}

    def record(teacher: str, student: str) -> MethodRecord:
        return MethodRecord(student, _student_title(titles[teacher]), {"teacher": teacher, **settings}, None)

    return DistillationRecord(
        ["plain", config.teacher],
        [record("plain", plain), record(config.teacher, smoothed)],
        MethodRecord(alone, titles.get(alone, ALONE), {}, None),
        config.distil_temperature,
        config.distil_weight,
        spec.backbone,
        spec.weights,
        spec.epochs,
        spec.batch_size,
        spec.learning_rate,
    )


def student_comparisons(study: StudyRecord) -> tuple[Comparison, Comparison]:
    """The smoothed teacher against the plain one in error, and its student against the plain one's."""
    assert study.distillation is not None
    plain, smoothed = (student.name for student in study.distillation.students)
    teacher = study.distillation.teachers[1]
    return study.comparison(teacher, "error"), study.comparison(smoothed, "error", reference=plain)


def with_verdict(study: StudyRecord) -> StudyRecord:
    """The study with the verdict on its students; see :class:`labelsmooth.study.records.DistillationRecord`."""
    if study.distillation is None:
        return study
    teachers, students = student_comparisons(study)
    outcomes = {_holds(teachers, -1), _holds(students, 1)}
    if not study.recommendation.method:  # no model is better than guessing
        outcomes = {None}
    verdict: Literal["agrees", "does not agree", "undecided"] = (
        "does not agree" if False in outcomes else "undecided" if None in outcomes else "agrees"
    )
    return dataclasses.replace(study, distillation=dataclasses.replace(study.distillation, verdict=verdict))


def _holds(row: Comparison, sign: int) -> bool | None:
    """Whether a difference has this sign; None where that is not known."""
    if row.significant:
        return row.difference * sign > 0
    return False if row.verdict == "equivalent" and not row.identical else None
