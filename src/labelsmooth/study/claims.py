"""Claims on work in a folder that any number of processes share, on any number of machines, NFS included.

A claim is a file ``NAME.1.claim`` that only one process can create.  Its holder touches it every few seconds; a claim
that nobody has touched for a minute is stale, and is taken over by creating ``NAME.2.claim``: again only one process
can.  The claim with the highest number counts.  No file is locked or renamed, so no two can take over one claim, and a
holder that slept too long finds that it is no longer the last.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import secrets
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["LIMIT", "Claim", "Claims", "Holder"]

LIMIT = 60.0  # seconds without a heartbeat after which a claim is stale
BEATS = 6  # heartbeats within the limit, so that a slow file server is not taken for a death


@dataclass(frozen=True)
class Holder:
    """Who holds a claim, and when it last touched it, by the file system's clock."""

    place: str
    pid: int
    token: str
    beat: float


class Claim:
    """A claim that this process holds; ``wary`` where the holder before it may only be asleep."""

    def __init__(self, claims: Claims, name: str, number: int, wary: bool) -> None:
        self.name, self.number, self.wary = name, number, wary
        self.token = secrets.token_hex(8)
        self.lost = False  # as the last heartbeat found it
        self._claims = claims
        self._released = threading.Event()

    def held(self) -> bool:
        """Whether nobody has taken the claim over, as the folder says now."""
        number, holder = self._claims.last(self.name)
        return number == self.number and holder is not None and holder.token == self.token

    def beat(self, seconds: float) -> None:
        """Touch the claim every so often until it is released or lost."""
        while not self._released.wait(seconds):
            # A file server that does not answer for a moment is tried again; the limit leaves time for that.
            with contextlib.suppress(OSError):
                if not self.held():
                    self.lost = True
                    return
                os.utime(self._claims.path(self.name, self.number))

    def stop(self) -> None:
        self._released.set()


class Claims:
    """The claims in one folder.

    Args:
        folder: shared by all who take part; made when it is first needed.
        limit: seconds without a heartbeat after which a claim is stale, the same for all who take part.
    """

    def __init__(self, folder: Path, limit: float = LIMIT) -> None:
        self._folder = folder
        self._limit = limit
        self._place = _place()
        self._clock: tuple[float, float] | None = None  # the file system's time, and this machine's at that moment

    @contextlib.contextmanager
    def take(self, name: str) -> Iterator[Claim | None]:
        """Hold the claim within the block; None where a living process holds it.

        A dead or stale one is taken over.  Whoever gets the claim must look whether the work was finished meanwhile.
        """
        claim = self._take(name)
        if claim is None:
            yield None
            return
        heart = threading.Thread(target=claim.beat, args=(self._limit / BEATS,), daemon=True)
        heart.start()
        try:
            yield claim
        finally:
            claim.stop()
            heart.join()
            self._release(claim)

    def holder(self, name: str) -> Holder | None:
        """The living process that holds the claim, if there is one."""
        _, holder = self.last(name)
        return None if holder is None or self._dead(holder) else holder

    def last(self, name: str) -> tuple[int, Holder | None]:
        """The highest number of the claims on a piece of work, 0 where there is none, and its holder."""
        number = max(self._numbers(name), default=0)
        return number, self._read(name, number) if number else None

    def path(self, name: str, number: int) -> Path:
        return self._folder / f"{name}.{number}.claim"

    def _numbers(self, name: str) -> list[int]:
        return sorted(int(path.name.split(".")[-2]) for path in self._folder.glob(f"{name}.*.claim"))

    def _take(self, name: str) -> Claim | None:
        number, before = self.last(name)
        if number and (before is None or not self._dead(before)):  # None: released a moment ago
            return None
        claim = Claim(self, name, number + 1, before is not None and not self._ended(before))
        if not self._create(self.path(name, number + 1), claim.token):
            return None
        # Since the folder was read, the claim to be taken over may have been released and others made in its place.
        # One of two who meet here sees the other, or both do: then neither has the claim, and each tries again later.
        now = self._read(name, number) if number else None
        same = before is None or (now is not None and now.token == before.token)
        if same and claim.held():
            return claim
        self.path(name, number + 1).unlink(missing_ok=True)
        return None

    def _create(self, path: Path, token: str) -> bool:
        """Whether the file was made by us: creation of a file that must be new is atomic, on NFS too."""
        self._folder.mkdir(parents=True, exist_ok=True)
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            return False
        try:
            with os.fdopen(handle, "w") as file:
                json.dump({"place": self._place, "pid": os.getpid(), "token": token}, file)
        except BaseException:
            path.unlink(missing_ok=True)
            raise
        return True

    def _read(self, name: str, number: int) -> Holder | None:
        try:
            # Opened before its time is asked for: NFS keeps times in a cache, which opening a file brings up to date.
            with open(self.path(name, number)) as file:
                text, beat = file.read(), os.fstat(file.fileno()).st_mtime
        except FileNotFoundError:
            return None
        try:
            said = json.loads(text)
            return Holder(str(said["place"]), int(said["pid"]), str(said["token"]), beat)
        except (ValueError, KeyError, TypeError):  # being written, or its writer died over it
            return Holder("", 0, "", beat)

    def _release(self, claim: Claim) -> None:
        # From the lowest number up, so that ours is seen until all are gone.  A lost claim is the other's to clear.
        with contextlib.suppress(OSError):  # what cannot be deleted goes stale
            if claim.held():
                for number in self._numbers(claim.name):
                    if number <= claim.number:
                        self.path(claim.name, number).unlink(missing_ok=True)

    def _ended(self, holder: Holder) -> bool:
        return holder.place == self._place and not _running(holder.pid)

    def _dead(self, holder: Holder) -> bool:
        return self._ended(holder) or self._now() - holder.beat > self._limit

    def _now(self) -> float:
        """The time by the file system's clock, which judges all machines alike, whatever their own clocks say.

        It is read off a file of our own once in a while, and carried on by this machine's monotonic clock in between.
        """
        ticks = time.monotonic()
        if self._clock is None or ticks - self._clock[1] > self._limit / BEATS:
            with tempfile.NamedTemporaryFile(dir=self._folder, prefix=".clock.") as file:
                os.utime(file.name)  # without a time given, the server sets its own
                self._clock = os.stat(file.name).st_mtime, ticks
        return self._clock[0] + ticks - self._clock[1]


def _place() -> str:
    """Where process ids mean the same: the machine, since it was booted, and the container."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(os.readlink("/proc/self/ns/pid"))
    return " ".join(parts)


def _running(pid: int) -> bool:
    """Whether there is such a process; where that cannot be asked without harm (Windows), it is taken to live."""
    if os.name != "posix":
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # another user's
    return True
