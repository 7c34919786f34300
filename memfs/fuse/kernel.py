"""The server: requests read from /dev/fuse, answers written to it, by one thread as long as that is enough.

Threading: a worker reads a request, has it answered by `Operations`, writes the answer. One worker is fastest for
one reader, so there is one; the supervisor (the main thread) looks every few milliseconds while there is work, and
starts another when all have been in the same request for two looks, which goes again when it was not needed for
a while. A read that is stuck in the kernel never freezes the mount; when its caller is interrupted, the supervisor
answers EINTR for it."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import threading
import time
from collections.abc import Callable, Iterable

from memfs.errors import MemfsError
from memfs.fuse import mount
from memfs.fuse import protocol as p
from memfs.fuse.log import Log
from memfs.fuse.operations import Operations
from memfs.fuse.pipe import WORTH_A_PIPE, Pipe, largest
from memfs.fuse.transport import Mounting
from memfs.fuse.waiting import Waiting
from memfs.image import Piece

WORKERS_AT_MOST = 16
_TICK, _TICK_AT_MOST = 0.005, 0.02  # the shorter one while something waits, or takes long
_LONELY_TICKS = 25  # so long never two at work, and one of two is too many: they would take turns, and sleep in between
_IDLE_TICKS = 40  # so long without work, and the supervisor sleeps until there is some
_PATIENCE = 0.2  # an interrupted request may take so long to end by itself
_OPCODES = max(p.OPCODES) + 1


class _Worker:
    """A thread, and the request that it is in."""

    __slots__ = ("counts", "interrupted", "pipe", "sent", "serial", "unique")

    def __init__(self) -> None:
        self.unique = 0  # 0: waiting for a request
        self.serial = 0
        self.counts = [0] * _OPCODES
        self.sent = 0  # bytes of answers
        self.pipe: Pipe | None = None
        self.interrupted = (0, 0.0)  # the request whose caller has a signal, and since when


def _sum(workers: Iterable[_Worker]) -> _Worker:
    """What several have done, as if one had."""
    total = _Worker()
    for worker in workers:
        total.counts = [a + b for a, b in zip(total.counts, worker.counts, strict=True)]
        total.sent += worker.sent
    return total


class Server:
    """One mount: serves until it is unmounted."""

    def __init__(
        self, fd: int, operations: Operations, ready: Callable[[], None], log: Log, trace: bool = False
    ) -> None:
        """`ready` is called once, when the kernel has been answered; `trace` logs every request."""
        self._fd = fd
        self._operations = operations
        self._ready = ready
        self._log = log
        self._trace = trace
        self._workers: list[_Worker] = []
        self._past = _Worker()  # what workers that have ended have done
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._awake = False
        self._ended = False
        self._short = False  # whether it has been said that another worker could not be had
        self._spare = False  # whether one of two workers is to end
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)

    def serve(self) -> None:
        """Serve in threads; returns when the filesystem has been unmounted. Call it from the main thread: it is
        the supervisor, and signal handlers run in it."""
        self._start_worker()
        self._wake.wait()  # for INIT: it must not share the interpreter with what follows
        # While whoever waited for the mount is busy with its own end. Nobody waits for it, if it hangs in the image.
        with contextlib.suppress(RuntimeError, MemoryError):  # no thread for it
            threading.Thread(target=self._ahead, args=("the root", self._operations.warm), daemon=True).start()
        while not self._ended:
            self._wake.wait()
            self._wake.clear()
            self._supervise()
        with self._lock:
            if not self._workers:  # one that is still stuck must not find another file under this number
                os.close(self._fd)

    # -- workers -------------------------------------------------------------------------------------------------

    def _start_worker(self) -> None:
        """Have one more thread, or go on with those that there are. Raises RuntimeError or MemoryError where there is
        none."""
        worker = _Worker()
        try:
            waiting, buffer = Waiting(self._fd), memoryview(bytearray(p.REQUEST_SIZE))
            thread = threading.Thread(target=self._work, args=(worker, waiting, buffer), daemon=True)
            with self._lock:
                self._workers.append(worker)
            thread.start()
        except (RuntimeError, MemoryError) as error:  # RLIMIT_NPROC, a cgroup's pids.max
            with self._lock:
                if worker in self._workers:
                    self._workers.remove(worker)
            if not self._workers:
                raise
            if not self._short:
                self._short = True  # it will be tried again many times
                self._log(f"no thread, or no memory, for one more worker: {error!r}")

    def _work(self, worker: _Worker, waiting: Waiting, buffer: memoryview) -> None:
        unpack, header_size = p.IN_HEADER.unpack_from, p.IN_HEADER.size
        try:
            while not self._surplus(worker):
                try:
                    got = waiting.read(buffer, self._waits_alone(worker))
                except OSError as error:
                    if error.errno in (errno.EINTR, errno.EAGAIN, errno.ENOENT):
                        continue
                    if error.errno in (errno.ENODEV, errno.ECONNABORTED):  # unmounted; in the middle of a request
                        break
                    raise
                _, opcode, unique, nodeid, uid, _, pid, _, _ = unpack(buffer)
                worker.serial += 1
                worker.unique = unique
                if not self._awake and opcode != p.INIT:
                    self._awake = True
                    self._wake.set()
                worker.counts[opcode if opcode < _OPCODES else 0] += 1
                if self._operations.live:
                    self._operations.ask_as(uid, pid)
                self._answer(worker, opcode, unique, nodeid, pid, buffer[header_size:got])
                worker.unique = 0
                if opcode == p.READDIRPLUS:
                    self._ahead("a listing", self._operations.prepare)
        finally:
            self._end(worker)

    def _waits_alone(self, worker: _Worker) -> bool:
        """Whether no other thread waits for requests; those that are stuck do not."""
        workers = self._workers
        return len(workers) == 1 or all(other.unique or other is worker for other in workers)

    def _surplus(self, worker: _Worker) -> bool:
        """Whether more threads wait for requests than are needed: then this one ends."""
        spare = self._spare
        if len(self._workers) <= 2 and not spare:
            return False
        with self._lock:
            waiting = sum(1 for other in self._workers if other is not worker and not other.unique)
            if waiting >= (1 if spare else 2):
                self._spare = False
                self._remove(worker)
                return True
        return False

    def _end(self, worker: _Worker) -> None:
        if worker.pipe is not None:
            worker.pipe.close()
        with self._lock:
            if worker in self._workers:  # not as surplus: the filesystem is gone, or this is a bug
                self._remove(worker)
                self._ended = True
        self._wake.set()

    def _remove(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        self._past = _sum((self._past, worker))

    def statistics(self) -> str:
        """What was asked for, how much was answered, by how many threads, in a line."""
        with self._lock:
            done, threads = _sum((self._past, *self._workers)), len(self._workers)
        named = sorted(((count, p.OPCODES.get(opcode, "")) for opcode, count in enumerate(done.counts)), reverse=True)
        kinds = ", ".join(f"{name} {count}" for count, name in named if count)
        requests = f"{sum(done.counts)} requests ({kinds}), {done.sent} bytes sent"
        return f"{requests}, {self._operations.opened()} files open, {threads} threads"

    # -- requests ------------------------------------------------------------------------------------------------

    def _answer(self, worker: _Worker, opcode: int, unique: int, nodeid: int, pid: int, body: memoryview) -> None:
        """Have one request answered; every failure is an errno for its caller."""
        if self._trace:
            name = p.OPCODES.get(opcode, str(opcode))
            self._log(f"{unique}: {name} node {nodeid} by process {pid}")
        operation = self._operations.table.get(opcode)
        try:
            if operation is not None:
                answer = operation(nodeid, body)
                if isinstance(answer, Piece):
                    worker.sent += self._hand_over(worker, unique, answer)
                else:
                    worker.sent += self._reply(unique, answer)
            else:
                self._other(opcode, unique, nodeid, body)
        except MemfsError as error:
            if error.errno == errno.EIO:
                self._log(str(error))
            self._error(unique, error.errno)
        except OSError as error:
            self._log(f"{p.OPCODES.get(opcode, opcode)}: {error}")
            self._error(unique, error.errno or errno.EIO)
        except Exception as error:  # the last line of the front: a bug must not hang its caller
            self._bug(opcode, unique, error)

    def _ahead(self, what: str, prepare: Callable[[], None]) -> None:
        """Get ahead of what is asked for next. What fails now fails again when it is asked for."""
        try:
            prepare()
        except Exception as error:  # the last line of the front, as in _answer: a bug must not end the mount
            self._log(f"{what} could not be prepared: {error!r}")

    def _bug(self, opcode: int, unique: int, error: Exception) -> None:
        import traceback

        self._log(f"a bug in memfs: {p.OPCODES.get(opcode, opcode)}: {error!r}")
        self._log(traceback.format_exc())
        self._error(unique, errno.EIO)

    def _other(self, opcode: int, unique: int, nodeid: int, body: memoryview) -> None:
        """Requests that are about the protocol, not the tree."""
        if opcode == p.FORGET:
            self._operations.forget(nodeid, body)
        elif opcode == p.BATCH_FORGET:
            self._operations.batch_forget(nodeid, body)
        elif opcode == p.INTERRUPT:
            self._interrupt(unique, p.INTERRUPT_IN.unpack_from(body)[0])
        elif opcode == p.INIT:
            self._reply(unique, self._initial(*p.INIT_IN.unpack_from(body)))
            self._ready()
            self._wake.set()
        else:
            self._error(unique, errno.ENOSYS)

    def _initial(self, major: int, minor: int, readahead: int, flags: int) -> bytes:
        what = self._operations
        return p.init_reply(major, minor, readahead, flags, what.live, what.read_at_most)

    def _reply(self, unique: int, answer: bytes | memoryview) -> int:
        """Answer a request; returns how many bytes that were."""
        try:
            os.writev(self._fd, (p.OUT_HEADER.pack(p.OUT_HEADER.size + len(answer), 0, unique), answer))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):  # the caller, or the mount, is gone
                raise
        return len(answer)

    def _hand_over(self, worker: _Worker, unique: int, piece: Piece) -> int:
        """Answer a request with bytes of a file, which are copied by the kernel alone if they fit into a pipe."""
        if piece.size < WORTH_A_PIPE:
            return self._reply(unique, _copied(piece))
        if worker.pipe is None:
            worker.pipe = Pipe()
        pipe = worker.pipe
        if not pipe.takes(piece):
            return self._reply(unique, _copied(piece))
        size = p.OUT_HEADER.size + piece.size
        try:
            whole = pipe.fill(p.OUT_HEADER.pack(size, 0, unique), piece)
        except OSError:  # of a filesystem without splice; if anything else is wrong, that is said when it is read
            return self._reply(unique, _copied(piece))
        if not whole:
            raise _cut_off()
        try:
            pipe.empty(self._fd, size)
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):  # the caller, or the mount, is gone
                raise
            return 0
        return piece.size

    def _error(self, unique: int, number: int) -> None:
        try:
            os.write(self._fd, p.OUT_HEADER.pack(p.OUT_HEADER.size, -number, unique))
        except OSError as error:
            if error.errno not in (errno.ENOENT, errno.ENODEV):
                self._log(f"an answer was refused: {error}")

    def _interrupt(self, unique: int, target: int) -> None:
        """A caller has a signal. Most requests end at once by themselves; the supervisor looks after the others.

        One that no worker has is over, or was read a moment ago: EAGAIN makes the kernel ask again, if it matters."""
        for worker in list(self._workers):
            if worker.unique == target:
                worker.interrupted = target, time.monotonic()
                return
        self._error(unique, errno.EAGAIN)

    # -- the supervisor ------------------------------------------------------------------------------------------

    def _supervise(self) -> None:
        """Look after the workers until there has been no work for a while."""
        last: dict[_Worker, int] = {}
        backlog = idle = lonely = stuck = 0
        pause = _TICK
        while not self._ended:
            time.sleep(pause)
            workers = list(self._workers)
            busy = {worker: worker.serial for worker in workers if worker.unique}
            backlog = backlog + 1 if self._waiting() else 0
            stuck = stuck + 1 if all(last.get(worker) == busy.get(worker) is not None for worker in workers) else 0
            if workers and len(workers) < WORKERS_AT_MOST and (stuck > 1 or (len(workers) == 1 and backlog > 4)):
                self._start_worker()
                stuck = 0
            slow = backlog or any(last.get(worker) == serial for worker, serial in busy.items())
            pause = _TICK if slow else min(2 * pause, _TICK_AT_MOST)  # each look takes the interpreter from a worker
            lonely = 0 if slow or len(busy) > 1 else lonely + 1
            self._spare = lonely > _LONELY_TICKS and len(workers) == 2
            self._answer_interrupted(busy)
            idle = 0 if busy or busy != last else idle + 1
            last = busy
            if idle > _IDLE_TICKS:
                self._awake = False
                if not any(worker.unique for worker in self._workers):
                    return
                self._awake = True
                idle = 0

    def _waiting(self) -> bool:
        """Whether a request is waiting that no worker has taken."""
        return bool(self._poll.poll(0))

    def _answer_interrupted(self, busy: Iterable[_Worker]) -> None:
        for worker in busy:
            unique, since = worker.interrupted
            if unique and worker.unique == unique and time.monotonic() - since > _PATIENCE:
                worker.interrupted = 0, 0.0
                self._error(unique, errno.EINTR)


def _copied(piece: Piece) -> bytes:
    """The bytes of a piece. Raises MemfsError (EIO) if not all of them are there any more, or may be others."""
    data = os.pread(piece.fd, piece.size, piece.offset)
    piece.check()
    if len(data) < piece.size:
        raise _cut_off()
    return data


def _cut_off() -> MemfsError:
    return MemfsError("the file behind the mount was cut off: EIO")


class KernelSession:
    """A mount that is served here."""

    def __init__(self, mounting: Mounting, ready: Callable[[], None], log: Log) -> None:
        self._mounting = mounting
        self._ready = ready
        self._log = log
        self._server: Server | None = None

    def serve(self) -> None:
        what = self._mounting
        if not what.files.live:  # the bytes of what lives come by no pipe
            what.files.read_at_most = largest()
        fd = mount.mount(what.point, what.source, what.allow_other)
        try:
            self._server = Server(fd, Operations(what.files), self._ready, self._log, what.trace)
            self._server.serve()
        except BaseException:
            with contextlib.suppress(MemfsError):  # what is not served must not stay
                mount.unmount(what.point, lazy=True)
            raise

    def statistics(self) -> str:
        return self._server.statistics() if self._server else "not mounted yet"


def session(mounting: Mounting, name: str, ready: Callable[[], None], log: Log) -> KernelSession:
    """A session of this transport (see transport.Transport)."""
    return KernelSession(mounting, ready, log)
