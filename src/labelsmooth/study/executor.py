"""Where the runs of a study are trained: in this process, or in worker processes of this machine."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import tempfile
import threading
from collections import Counter, deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Future, wait
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Protocol

import torch

from labelsmooth._memory import keep_freed_memory
from labelsmooth.data.dataset import Dataset, PhotoImages
from labelsmooth.errors import UserError
from labelsmooth.progress import Progress
from labelsmooth.study.runs import Job, Runs
from labelsmooth.training.network import SMALL_CNN

ATTEMPTS = 3  # at a run whose worker process is killed
POLL = 0.2  # seconds between two looks at the epochs that are done


class Executor(Protocol):
    """A way to train the runs of a study."""

    def train(self, jobs: Sequence[Job], runs: Runs, progress: Progress) -> Generator[Job, None, None]:
        """Train the runs, in any order, and yield each one when its folder is finished.

        Raises:
            UserError: a run failed; the others are stopped, and continue from their last epoch the next time.
        """
        ...


class Workers:
    """Worker processes on this machine, each with one run at a time.

    A run of the small network computes with one thread: more would wait for each other most of the time.  Where there
    are GPUs, each worker sees one of them.  A worker that is killed is replaced, and its run continues from its last
    epoch.  Workers end with this process.

    Args:
        count: of processes; by default one for each GPU, or as many as the CPU's cores allow, and at most one for each
            run.  With 1, the runs are trained in this process.

    Raises:
        UserError: the count is less than 1.
    """

    def __init__(self, count: int | None = None) -> None:
        if count is not None and count < 1:
            raise UserError(f"workers={count} is too small; give at least 1.")
        self._count = count

    def train(self, jobs: Sequence[Job], runs: Runs, progress: Progress) -> Generator[Job, None, None]:
        """Train the runs; see :class:`Executor`."""
        if not jobs:
            return
        gpus = torch.accelerator.device_count() if torch.accelerator.is_available() else 0
        count, threads = plan(self._count, gpus, jobs[0].spec.backbone, len(jobs))
        if count == 1:
            yield from _in_this_process(jobs, runs, progress, threads)
        else:
            with _shared_photos(runs.task.data):
                workers = [_Worker(number, runs, threads, gpus) for number in range(count)]
                yield from _in_workers(jobs, progress, workers)


def plan(count: int | None, gpus: int, backbone: str, jobs: int) -> tuple[int, int]:
    """How many workers, and how many threads for each."""
    from loky import cpu_count  # of the extra "study": `labelsmooth evaluate` imports this file without it

    threads = min(threads_for(backbone), cpu_count())
    return min(count or gpus or max(1, cpu_count() // threads), jobs), threads


def threads_for(backbone: str) -> int:
    """Threads for which a run has work on the CPU."""
    return 1 if backbone == SMALL_CNN else 4


def _in_this_process(jobs: Sequence[Job], runs: Runs, progress: Progress, threads: int) -> Generator[Job, None, None]:
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for job in jobs:
            progress.run(job.title, job.spec.seed, epochs=job.spec.epochs)
            runs.train(job, progress)
            yield job
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _shared_photos(data: Dataset) -> Iterator[None]:
    """Decoded photos in a file that all workers map into their memory, and that does not outlive this process."""
    if not isinstance(data.images, PhotoImages):
        yield
        return
    from loky.backend import resource_tracker

    folder = tempfile.mkdtemp(prefix="labelsmooth-")
    resource_tracker.register(folder, "folder")
    try:
        with data.images.shared(Path(folder, "photos")):
            yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        resource_tracker.unregister(folder, "folder")


def _in_workers(jobs: Sequence[Job], progress: Progress, workers: list[_Worker]) -> Generator[Job, None, None]:
    waiting, idle = deque(jobs), deque(workers)
    running: dict[Future[None], tuple[_Worker, Job]] = {}
    attempts: Counter[Job] = Counter()
    try:
        while waiting or running:
            while waiting and idle:
                worker, job = idle.popleft(), waiting.popleft()
                running[worker.submit(job)] = worker, job
                progress.run(job.title, job.spec.seed, worker.number, job.spec.epochs)
            done, _ = wait(running, POLL, FIRST_COMPLETED)
            for worker, _ in running.values():
                for epochs in worker.epochs():
                    progress.epoch(*epochs, worker.number)
            for future in done:
                worker, job = running.pop(future)
                idle.append(worker)
                try:
                    future.result()
                except BrokenExecutor as error:
                    attempts[job] += 1
                    if attempts[job] == ATTEMPTS:
                        raise UserError(
                            f"The process that trained {job} was killed {ATTEMPTS} times, perhaps for want of memory. "
                            f"Run the same command with fewer --workers than {len(workers)}: finished runs are kept."
                        ) from error
                    worker.restart()
                    waiting.appendleft(job)
                else:
                    yield job
    finally:
        for worker in workers:
            worker.stop()


class _Worker:
    """A pool of one process, so that the end of one process does not end the others."""

    def __init__(self, number: int, runs: Runs, threads: int, gpus: int) -> None:
        self.number = number
        self._runs, self._threads = runs, threads
        self._environment = {"OMP_NUM_THREADS": str(threads)}
        if gpus and torch.cuda.is_available():
            visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(gpus)))).split(",")
            self._environment["CUDA_VISIBLE_DEVICES"] = visible[number % gpus]
        self.restart()

    def restart(self) -> None:
        from loky import ProcessPoolExecutor

        self._pipe, other = Pipe()
        self._pool = ProcessPoolExecutor(
            1, initializer=_start, initargs=(other, self._runs, self._threads), env=self._environment
        )

    def submit(self, job: Job) -> Future[None]:
        with _without_interrupts():  # inherited by the process: Ctrl-C is this process's to handle
            try:
                future: Future[None] = self._pool.submit(_train, job)
            except BrokenExecutor:  # killed while it had nothing to do
                self.restart()
                future = self._pool.submit(_train, job)
            return future

    def epochs(self) -> Iterator[tuple[int, int]]:
        """(Epochs done, epochs) as the process has reported them since the last call."""
        with contextlib.suppress(EOFError, OSError):
            while self._pipe.poll():
                yield self._pipe.recv()

    def stop(self) -> None:
        self._pool.shutdown(kill_workers=True)


_runs: Runs
_pipe: Connection


def _start(pipe: Connection, runs: Runs, threads: int) -> None:
    """Prepare a worker process."""
    global _runs, _pipe
    _runs, _pipe = runs, pipe
    keep_freed_memory()
    torch.set_num_threads(threads)
    threading.Thread(target=_end_with_parent, args=(pipe,), daemon=True).start()


def _end_with_parent(pipe: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        pipe.recv()  # nothing is sent: it returns when the parent's end is closed
    os._exit(1)


class _ToParent(Progress):
    def epoch(self, done: int, total: int, worker: int = 0) -> None:
        _pipe.send((done, total))


def _train(job: Job) -> None:
    _runs.train(job, _ToParent())


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Block Ctrl-C in this thread; one that is pressed inside the block is delivered at its end."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
