"""Work that is killed at a random moment, in a process of its own: only a process of one thread may fork safely."""

import os
import signal
import time


def killed(work, rng, writes):
    """Start some work, and kill it some time after it wrote some files: whether it was still at work.

    writes: how many files, of which one number is chosen. The time alone would leave it to the machine how far it gets.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        fsync = os.fsync

        def slow(number):
            os.write(writing, b".")
            fsync(number)
            time.sleep(0.003)  # so that some kills meet a file half written

        os.fsync = slow
        work()
        os._exit(0)
    os.close(writing)
    for _ in range(rng.choice(writes)):
        os.read(reading, 1)
    time.sleep(rng.uniform(0, 0.02))
    os.kill(child, signal.SIGKILL)
    os.close(reading)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])
