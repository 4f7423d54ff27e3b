"""The program that runs a Python task in a process of its own. Rule: standard library only, and
as little as possible.

Started by path with `-P`; argument: the target. It reads the environment the worker set (DTF_*),
reports its end as one line {"end": ...} to DTF_REPORT, and leaves with status 0 or 1, or with the
status the task asked for.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False  # importing typing takes 4 ms
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any

VALUE_BYTES_MAX = 64 * 1024
MESSAGE_MAX = 4000


def tell(**end: Any) -> None:
    """The worker knows how the task ended. Without a worker nothing happens."""
    path = os.environ.get("DTF_REPORT")
    if not path:
        return
    import json

    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(fd, json.dumps({"end": end}).encode() + b"\n")
    finally:
        os.close(fd)


def flush() -> None:
    """What the task has printed is out, if it left its stdout open."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError, AttributeError):
        return


def complain(text: str) -> None:
    """The text is on stderr, if the task left it open."""
    try:
        sys.stderr.write(text)
    except (OSError, ValueError, AttributeError):
        return


def config(message: str) -> int:
    print(message, file=sys.stderr)  # noqa: T201
    tell(status="config", message=message[:MESSAGE_MAX])
    return 1


def without_us(frames: TracebackType | None) -> TracebackType | None:
    """The part of a traceback that is the task's own."""
    while frames is not None and frames.tb_frame.f_code.co_filename in (__file__, "<frozen runpy>"):
        frames = frames.tb_next
    return frames


def raised(error: BaseException) -> int:
    import traceback

    text = traceback.format_exception(type(error), error, without_us(error.__traceback__))
    whole = "".join(text)
    flush()
    complain(whole)
    last = "".join(traceback.format_exception_only(type(error), error)).strip()
    tell(status="raised", message=f"{last}\n{whole[-2500:]}"[:MESSAGE_MAX], exit_code=1)
    return 1


def exited(error: SystemExit) -> int:
    code = error.code
    if code is None:
        code = 0
    if not isinstance(code, int):
        print(code, file=sys.stderr)  # noqa: T201
        code = 1
    flush()
    tell(status="exited", exit_code=code & 255)
    return code & 255


def load(target: str) -> Any:
    """The callable "module:name" stands for, or a message why there is none."""
    name, _, attribute = target.partition(":")
    import importlib

    try:
        found: Any = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(error.name + ".")):
            where = os.environ.get("DTF_BUNDLE") or "no bundle"
            return (
                f"no module named {name!r} (target {target!r}; "
                f"looked in {where}, then in the worker's Python)"
            )
        if not str(error).startswith("No module named"):
            return f"{target!r}: {error}"  # the module says itself what to install
        return (
            f"{target!r} needs the module {error.name!r}, which this worker does not have; "
            f"install it into {sys.executable}"
        )
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            return f"module {name!r} has no {attribute!r} (target {target!r})"
    if not callable(found):
        return f"{target!r} is a {type(found).__name__}, not a callable"
    return found


def run_callable(target: str) -> int:
    import json

    params = json.loads(os.environ.get("DTF_PARAMS") or "{}")
    call = load(target)
    if isinstance(call, str):
        return config(call)
    value = call(**params)
    if hasattr(value, "__await__"):
        import asyncio

        value = asyncio.run(await_it(value))
    flush()
    if value is None:
        tell(status="returned")
        return 0
    try:
        encoded = json.dumps(value, allow_nan=False)
    except (TypeError, ValueError) as error:
        tell(
            status="returned", message=f"the returned {type(value).__name__} was left out: {error}"
        )
        return 0
    if len(encoded) > VALUE_BYTES_MAX:
        text = f"the returned value was left out: {len(encoded)} bytes, more than {VALUE_BYTES_MAX}"
        tell(status="returned", message=text)
    else:
        tell(status="returned", value=value)
    return 0


async def await_it(value: Any) -> Any:
    return await value


def run_script(target: str, folder: str) -> int:
    path = os.path.join(folder, target)
    if not os.path.isfile(path):
        return config(f"no file {target!r} in {folder}")
    import runpy

    sys.argv = [path]
    sys.path[0] = os.path.dirname(os.path.abspath(path))
    runpy.run_path(path, run_name="__main__")
    flush()
    tell(status="returned")
    return 0


def main() -> int:
    target = sys.argv[1]
    folder = os.environ.get("DTF_BUNDLE") or os.getcwd()
    if sys.path[:1] != [folder]:  # a warm parent has it there already
        sys.path.insert(0, folder)
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    try:
        if ":" in target:
            return run_callable(target)
        sys.path.insert(0, "")  # run_script puts the script's folder there
        return run_script(target, folder)
    except SystemExit as error:
        return exited(error)
    except BaseException as error:  # the boundary of the task: whatever it raised is its result
        return raised(error)


if __name__ == "__main__":
    sys.exit(main())
