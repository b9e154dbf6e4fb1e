"""Where cells are carried out: by loky's processes on this machine, or by Dask, here or wherever its workers are."""

from __future__ import annotations

import concurrent.futures
import contextlib
import logging
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from specverify import digests, pool
from specverify.errors import InputError, SpecverifyError
from specverify.memory import keep_freed

PATIENCE = 30
"""Seconds that a scheduler has to answer, and its first worker to come."""
_DEAF = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
"""Workers of this machine leave Ctrl-C to this process."""


class Workers:
    """The workers of a Dask client, as `pool.share_out` asks for them.

    Attributes:
        devices: of a scheduler, as many as it has workers: each is started with a device of its own.
    """

    def __init__(self, client: Any, elsewhere: bool = False) -> None:
        self._executor = client.get_executor(pure=False)
        self._max_workers = len(client.nthreads())
        if elsewhere:
            self.devices = self._max_workers

    def submit(self, fn: Callable[..., Any], /, *args: Any) -> concurrent.futures.Future[Any]:
        """Have a worker call a function."""
        return self._executor.submit(fn, *args)  # type: ignore[no-any-return]


@contextlib.contextmanager
def loky(jobs: int | None) -> Iterator[pool.Executor]:
    """Processes of joblib's loky, which end when this does.

    Args:
        jobs: how many; one per core if None.
    """
    from joblib.externals.loky import ProcessPoolExecutor

    # Workers keep memory that was freed, which loky takes for a leak, and replaces them between two cells.
    warnings.filterwarnings("ignore", message="A worker stopped while some jobs were given to the executor")
    executor = ProcessPoolExecutor(pool.width(pool.checked(jobs)), initializer=pool.prepare_worker)
    try:
        yield executor
    finally:
        executor.shutdown(wait=True, kill_workers=True)


@contextlib.contextmanager
def dask(scheduler: str | None, jobs: int | None) -> Iterator[Workers]:
    """Workers of a scheduler, or of a cluster of this machine that lasts as long as this does.

    Args:
        scheduler: its address, such as "tcp://10.0.0.5:8786".
        jobs: processes of the cluster, where no scheduler is named; one per core if None.

    Raises:
        InputError: Dask is not installed; no scheduler or no worker answers; workers have other code than this process.
        SpecverifyError: workers ended while they were at work.
    """
    try:
        import dask.config
        from distributed import Client, KilledWorker, LocalCluster
    except ImportError:
        raise InputError(
            "Dask is not installed; python -m pip install 'specverify[dask]', or leave out --engine dask"
        ) from None
    if scheduler is not None and jobs is not None:
        raise InputError(f"--jobs {jobs} is for processes of this machine; {scheduler} has workers of its own")
    logging.getLogger("distributed").setLevel(logging.CRITICAL)  # what matters is said below
    with contextlib.ExitStack() as held:
        held.enter_context(
            dask.config.set({"logging.distributed": "critical", "distributed.comm.timeouts.connect": PATIENCE})
        )
        try:
            if scheduler is None:
                count = pool.width(pool.checked(jobs))
                options = {
                    "n_workers": count,
                    "threads_per_worker": 1,
                    "dashboard_address": "127.0.0.1:0",
                    "preload": [_DEAF],
                }
                cluster = held.enter_context(LocalCluster(**options))
                client = held.enter_context(Client(cluster))
            else:
                client = held.enter_context(Client(scheduler, timeout=PATIENCE))
            client.wait_for_workers(1, timeout=PATIENCE)
        except (OSError, TimeoutError, ValueError) as error:
            said = str(error).partition("\n")[0] or type(error).__name__
            raise InputError(
                f"no worker at {scheduler or 'a local cluster'} ({said}); start `dask scheduler` and, beside it, "
                "`dask worker ADDRESS --nthreads 1`"
            ) from None
        others = [where for where, code in client.run(digests.code).items() if code != digests.code()]
        if others:
            raise InputError(
                f"{', '.join(others)}: other code of specverify, a plug-in, torch or transformers than here; install "
                "the same there"
            )
        client.run(keep_freed)
        try:
            yield Workers(client, scheduler is not None)
        except KilledWorker as error:
            raise SpecverifyError(
                f"workers ended at one cell again and again, as when memory runs out ({error}); what was finished is "
                "kept, and the same command continues"
            ) from None
