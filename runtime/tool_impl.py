"""A tool that is a Python callable, found by `module:function` from the script's folder.

Nothing here can keep the process from ending: callables run in daemon threads, coroutines on an
event loop of their own in one, so that user code that blocks never blocks a run.
"""

from __future__ import annotations

import asyncio
import copy
import importlib
import importlib.util
import inspect
import itertools
import sys
import threading
import traceback
from collections.abc import Callable, Coroutine, Generator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, cast

from tokenloom.runtime.values import Value

_CLOSE_S = 0.5
_module_ids = itertools.count()


class ImplError(Exception):
    """The callable cannot be found, raised, or took too long."""


class Implementations:
    """The Python callables of one run. Modules are loaded once a run and kept apart by path."""

    def __init__(self) -> None:
        self._modules: dict[Path, ModuleType] = {}
        self._found: dict[tuple[str, Path], Callable[..., Any]] = {}
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def find(self, impl: str, directory: Path) -> Callable[..., Any]:
        """Return the callable, importing its module. Raises ImplError."""
        with self._lock:
            if (impl, directory) not in self._found:
                self._found[impl, directory] = self._find(impl, directory)
            return self._found[impl, directory]

    async def call(
        self, impl: str, directory: Path, arguments: Mapping[str, Value], timeout_s: float
    ) -> Value:
        """Call it with copies of the arguments. Raises ImplError, also after `timeout_s`."""
        function = self.find(impl, directory)
        given = copy.deepcopy(dict(arguments))
        if inspect.iscoroutinefunction(function):
            work = asyncio.run_coroutine_threadsafe(_guard(function, given), self._start_loop())
        else:
            work = _in_thread(function, given)
        outcome = await _wait(work, timeout_s)
        if outcome.error is not None:
            raise ImplError(outcome.error)
        if inspect.isawaitable(outcome.value):
            raise ImplError("returned an awaitable: declare it with 'async def'")
        return outcome.value

    def close(self) -> None:
        """Cancel coroutines and forget the modules; what does not stop is left to its thread."""
        for module in self._modules.values():
            sys.modules.pop(module.__name__, None)
        self._modules.clear()
        self._found.clear()
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(_cancel_all, self._loop)
            self._thread.join(_CLOSE_S)
            self._loop = self._thread = None

    def _start_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(
                target=_run_loop, args=(self._loop,), name="tools", daemon=True
            )
            self._thread.start()
        return self._loop

    def _find(self, impl: str, directory: Path) -> Callable[..., Any]:
        module_name, _, attribute = impl.partition(":")
        module = self._import(module_name, directory)
        found: object = module
        for name in attribute.split("."):
            found = getattr(found, name, None)
        if not callable(found):
            raise ImplError(f"'{module_name}' has no function '{attribute}'")
        return cast("Callable[..., Any]", found)

    def _import(self, name: str, directory: Path) -> ModuleType:
        located = _locate(name, directory)
        if located is None:
            try:
                return importlib.import_module(name)
            except ImportError:
                raise ImplError(
                    f"no module '{name}' in {directory} or above it, and none is installed"
                ) from None
        root, path = located
        if path not in self._modules:
            self._modules[path] = _load(path, root)
        return self._modules[path]


def _locate(name: str, directory: Path) -> tuple[Path, Path] | None:
    """Return the folder that `name` is found from and the module's file."""
    relative = Path(*name.split("."))
    directory = directory.resolve()
    for root in (directory, *directory.parents):
        for path in (root / relative.with_suffix(".py"), root / relative / "__init__.py"):
            if path.is_file():
                return root, path
    return None


def _load(path: Path, root: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        f"_tokenloom_tools_{next(_module_ids)}_{path.stem}", path
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module.__name__] = module  # dataclasses and pickle look a class's module up
    try:
        with _path_entries(root, path.parent):
            spec.loader.exec_module(module)
    except BaseException as error:
        del sys.modules[module.__name__]
        if isinstance(error, KeyboardInterrupt):
            raise
        raise ImplError(f"importing {path} raised {_describe(error)}") from error
    return module


@contextmanager
def _path_entries(*folders: Path) -> Generator[None]:
    """Let a module import its neighbours while it is loaded, and only then."""
    entries = [str(folder) for folder in folders]
    sys.path[:0] = entries
    try:
        yield
    finally:
        for entry in entries:
            if entry in sys.path:
                sys.path.remove(entry)


@dataclass(frozen=True)
class _Outcome:
    """What a call gave, or in words why it gave nothing."""

    value: Any = None
    error: str | None = None


def _in_thread(function: Callable[..., Any], arguments: Mapping[str, Value]) -> Future[_Outcome]:
    work: Future[_Outcome] = Future()

    def run() -> None:
        try:
            outcome = _Outcome(function(**arguments))
        except BaseException as error:  # SystemExit in a tool ends the tool, not the program
            outcome = _Outcome(error=f"raised {_describe(error)}")
        if work.set_running_or_notify_cancel():  # else nobody waits for it any more
            work.set_result(outcome)

    threading.Thread(target=run, name="tool", daemon=True).start()
    return work


async def _guard(function: Callable[..., Any], arguments: Mapping[str, Value]) -> _Outcome:
    try:
        return _Outcome(await function(**arguments))
    except asyncio.CancelledError:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        return _Outcome(error="cancelled itself")
    except BaseException as error:
        return _Outcome(error=f"raised {_describe(error)}")


async def _wait(work: Future[_Outcome], timeout_s: float) -> _Outcome:
    """Wait, and give the work up on timeout or cancellation without waiting for it to stop."""
    waiting = asyncio.wrap_future(work)
    try:
        done, _ = await asyncio.wait({waiting}, timeout=timeout_s)
    except asyncio.CancelledError:
        waiting.cancel()
        raise
    if not done:
        waiting.cancel()
        return _Outcome(error=f"took longer than {timeout_s:g} s and was given up")
    return waiting.result()


def _run_loop(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.close()


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    async def finish() -> None:
        tasks = asyncio.all_tasks(loop) - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        loop.stop()

    finishing: Coroutine[Any, Any, None] = finish()
    loop.create_task(finishing)


def _describe(error: BaseException) -> str:
    """Return the exception as one line with the place in the user's code."""
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    frames = traceback.extract_tb(error.__traceback__)
    own = [f for f in frames if f.filename != __file__ and not f.filename.startswith("<")]
    return f"{text} ({own[-1].filename}:{own[-1].lineno})" if own else text
