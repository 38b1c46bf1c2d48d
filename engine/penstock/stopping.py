"""An orderly stop on SIGTERM, for programs that ask for it.

Penstock installs no signal handler: signals belong to the program. Without one SIGTERM kills a Python process on the
spot, with nothing cleaned up. Inside `stop_on_sigterm` it does what Ctrl-C does: flows are cancelled, their states
written, their clean-up runs, and the process exits with the code that shells and supervisors expect.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Generator
from contextlib import contextmanager
from types import FrameType

__all__ = ("stop_on_sigterm",)

# What Ctrl-C meets where Python does not hear it: a job that a shell script has started in the background ignores it.
_UNHEARD = (signal.SIG_IGN, signal.SIG_DFL)


@contextmanager
def stop_on_sigterm() -> Generator[None, None, None]:
    """While the block runs, stop it in order when SIGTERM arrives, and exit with code 143.

    Put it around what the program does: ``with stop_on_sigterm(): my_flow()``, or ``asyncio.run(main())``. A second
    SIGTERM does not wait for clean-up. Ctrl-C is heard as well, also in a job that a shell script has started in the
    background, which would ignore it. The handlers that were installed before are put back at the end.

    Raises:
        ValueError: If entered in another thread than the main one, where Python allows no handlers.
        SystemExit: With code 143, when the block was stopped by SIGTERM.
    """
    arrived: list[int] = []

    def stop(number: int, _: FrameType | None) -> None:
        arrived.append(number)
        # As if Ctrl-C had been pressed: the one way in that asyncio, too, takes for a request to cancel.
        os.kill(os.getpid(), signal.SIGINT)

    ctrl_c = signal.getsignal(signal.SIGINT)
    if ctrl_c in _UNHEARD:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    except KeyboardInterrupt:
        if not arrived:
            raise
        raise SystemExit(128 + signal.SIGTERM) from None
    finally:
        signal.signal(signal.SIGTERM, before)
        if ctrl_c in _UNHEARD:
            signal.signal(signal.SIGINT, ctrl_c)
