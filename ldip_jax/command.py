"""What commands share: exit codes and one-line errors, types of arguments, and the flags of references."""

import _thread
import argparse
import errno
import importlib.util
import io
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any, Literal

from ldip_jax.errors import InputError
from ldip_jax.memory import parse_size
from ldip_jax.runtime import configure, missing_device


class _Signals:
    """Makes signals end the program as Ctrl-C does, so that what is finished is kept, and remembers them.

    A context manager: within, signals are handled so if this is the main thread.

    Attributes:
        received: the number of the first signal; 0: none.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[int, Any] = {}
        self._hook = sys.unraisablehook

    def __enter__(self) -> "_Signals":
        if threading.current_thread() is not threading.main_thread():
            return self
        for name in ("SIGINT", "SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            # An ignored signal, as under nohup, stays ignored.
            usual = (signal.SIG_DFL, signal.default_int_handler)
            if number is not None and signal.getsignal(number) in usual:
                self._before[number] = signal.signal(number, self._handle)
        sys.unraisablehook = self._unraisable
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        sys.unraisablehook = self._hook
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.received = self.received or number
        raise KeyboardInterrupt

    def _unraisable(self, problem: "sys.UnraisableHookArgs") -> None:
        if problem.exc_type is KeyboardInterrupt:
            # Lost where Python cannot raise it, as in a finalizer: once more.
            _thread.interrupt_main(signal.Signals(self.received or signal.SIGINT))
        else:
            self._hook(problem)


def run_guarded(program: str, parser: argparse.ArgumentParser, argv: Sequence[str] | None) -> int:
    """Parse `argv`, call the `run` that the parser sets, and return an exit code, also after an exception.

    Without a command, the help is printed. A parser may set more than `run`: `overrides`, if the command
    takes flags that the parser does not know, which are then listed there; `needs_less`, the advice when
    memory runs out; and `own_signals`, if the command handles signals itself.

    Args:
        program: its name, which begins an error message.
    """
    # A file name may not be valid text; printing it must not end the program.
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    # Before flags are parsed, because a flag's type may import jax.
    configure()
    args, rest = parser.parse_known_args(with_dashes(sys.argv[1:] if argv is None else argv))
    if rest and not hasattr(args, "overrides"):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if not hasattr(args, "run"):
        parser.print_help()
        return 0
    args.overrides = rest
    needs_less = getattr(args, "needs_less", "smaller frames or a smaller --scale need less")
    signals = _Signals()
    with nullcontext() if getattr(args, "own_signals", False) else signals:
        return guarded(program, lambda: args.run(args), needs_less, lambda: signals.received)


def with_dashes(argv: Sequence[str]) -> list[str]:
    """The words of a command line with dashes in the names of flags, where underscores work as well.

    Fields of a config, `--config.data.data_dir`, keep their names.
    """
    words = []
    for word in argv:
        name, equals, value = word.partition("=")
        if word.startswith("--") and not re.match("--(no)?config[.]", word):
            word = name.replace("_", "-") + equals + value
        words.append(word)
    return words


def need_extra(extra: str) -> None:
    """Check that the packages of an optional dependency are installed.

    Raises:
        InputError: one of them is missing; says how to install all.
    """
    for module in _EXTRAS[extra]:
        if importlib.util.find_spec(module) is None:
            raise InputError(f"needs {module}, which is not installed; pip install 'ldip-jax[{extra}]'")


_EXTRAS = {
    "train": (
        *("absl", "array_record", "grain", "ml_collections", "optax", "orbax", "tensorboard"),
        "tensorflow_datasets",
    ),
    "studio": ("starlette", "uvicorn"),
}


def guarded(
    program: str, work: Callable[[], int], needs_less: str, received: Callable[[], int] = lambda: 0
) -> int:
    """Do the work, and return an exit code, also after an exception.

    Args:
        program: its name, which begins an error message.
        work: returns the exit code.
        needs_less: the advice when memory runs out.
        received: the number of the signal that interrupts the work; 0: none, so Ctrl-C is meant.
    """
    try:
        code = work()
        sys.stdout.flush()
        return code
    except InputError as error:
        print(f"{program}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return _interrupted(program, received())
    except BrokenPipeError:
        # The reader of our output has closed it.
        _print_no_more()
        return 1
    except Exception as error:
        if number := received():
            # What is interrupted may turn that into an error of its own, as imports do.
            return _interrupted(program, number)
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            _print_no_more()
            print(
                f"{program}: {error.filename or 'cannot write'}: no space left on the disk", file=sys.stderr
            )
            return 2
        # XLA's error has its own type, and importing jax to name it takes a second.
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            print(f"{program}: out of memory; {needs_less}", file=sys.stderr)
            return 2
        if missing := missing_device():
            print(f"{program}: {missing}", file=sys.stderr)
            return 2
        raise


def _interrupted(program: str, number: int) -> int:
    """Say so, and return the exit code that shells give a program which the signal ends."""
    print(f"{program}: interrupted", file=sys.stderr)
    return 128 + (number or signal.SIGINT)


def _print_no_more() -> None:
    """Redirect standard output, which is closed or full, so that flushing it at exit does not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def at_least(minimum: int) -> Callable[[str], int]:
    """A whole number of at least `minimum`."""

    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) < minimum:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {minimum}")
        return int(text)

    return parse


def file_or_folder(text: str) -> Path:
    """A path. An empty string is refused, so that it does not mean the current folder."""
    if not text:
        raise argparse.ArgumentTypeError("is empty; name a file or folder")
    return Path(text)


def memory_size(text: str) -> int:
    """A size of memory, such as 8G, in bytes."""
    try:
        return parse_size(text)
    except InputError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_memory_flag(group: argparse._ArgumentGroup) -> None:
    """Adds --memory."""
    group.add_argument(
        "--memory",
        type=memory_size,
        metavar="SIZE",
        help="limit of memory, such as 1500M or 8G: on a CPU for the whole process, on a GPU for the"
        " device. Large frames are cut into tiles, and intermediate results are kept in a temporary file in"
        " TMPDIR (default: three quarters of what is free)",
    )


def parse_cuts(text: str) -> Literal["auto", "none"] | tuple[int, ...]:
    """The argument of `--cuts`: auto, none, or FRAME,... (first frames of new shots, counted from 0).

    Returns:
        The word, or the frames in ascending order.

    Raises:
        argparse.ArgumentTypeError: anything else, frame 0, or a frame named twice.
    """
    if text in ("auto", "none"):
        return text
    parts = [part.strip() for part in text.split(",")]
    for part in parts:
        if not (part.isascii() and part.isdecimal()):
            raise argparse.ArgumentTypeError(f"{text!r} is not auto, none or frames such as 48,120")
        if int(part) == 0:
            what = "frame 0 begins the clip and is not a cut; leave it out"
            raise argparse.ArgumentTypeError(f"{text!r}: {what}")
    frames = sorted(int(part) for part in parts)
    if len(set(frames)) < len(frames):
        raise argparse.ArgumentTypeError(f"{text!r} names a frame twice; name each once")
    return tuple(frames)


def parse_shard(text: str) -> Literal["auto"] | tuple[int, int]:
    """The argument of `--shard`: I/N with I from 0 to N - 1, or auto; see `processes.own_shard`.

    Raises:
        argparse.ArgumentTypeError: anything else.
    """
    if text == "auto":
        return text
    index, _, parts = text.partition("/")
    if not (index.isdecimal() and parts.isdecimal() and int(index) < int(parts)):
        raise argparse.ArgumentTypeError(f"{text!r} is not I/N with I from 0 to N - 1, such as 0/8, nor auto")
    return int(index), int(parts)


def add_reference_flags(group: argparse._ArgumentGroup) -> None:
    """Adds --key-stride, --self-refs, --exclude, --ref-threshold and --refs-as-given."""
    add = group.add_argument
    add(
        "--key-stride",
        type=at_least(1),
        metavar="N",
        default=8,
        help="every N-th frame is a key-frame, as are both ends of every shot and the frames most similar to"
        " the stills; with stills, sharper frames nearby take the place of blurred ones; references are"
        " matched with key-frames (default: %(default)s)",
    )
    add(
        "--self-refs",
        type=at_least(0),
        metavar="N",
        help="references per key-frame: places without a still are filled with distant frames of the clip;"
        " 0: only stills (default: 5 frames of the clip if no still matches, else only stills)",
    )
    add(
        "--exclude",
        type=at_least(0),
        metavar="N",
        default=5,
        help="frames up to N away from a key-frame are not references for it (default: %(default)s)",
    )
    add(
        "--ref-threshold",
        type=float,
        metavar="SHARE",
        default=0.05,
        help="a reference image is used for a key-frame if at least this fraction of the key-frame's pixels,"
        " 0 to 1, matches with confidence above 0.5; 0: use all, whatever they show (default: %(default)s)",
    )
    add(
        "--refs-as-given",
        action="store_true",
        help="do not calibrate reference images to the clip, and do not leave out those that are no sharper"
        " than the upscaled frame or show something else where they seem to match",
    )


METHODS = ("ldip", "mrefsr")


def add_method_flags(group: argparse._ArgumentGroup, what: str) -> None:
    """Adds --method, --mrefsr, --extractor and --vgg.

    Args:
        what: what "mrefsr" does, for the help of --method.
    """
    add = group.add_argument
    add("--method", choices=METHODS, default="ldip", help=f"{what} (default: %(default)s)")
    add(
        "--mrefsr",
        metavar="FILE",
        help="with --method mrefsr: its restoration network, trained with `ldip train --config mrefsr_x4` or"
        " by others",
    )
    add(
        "--extractor",
        metavar="FILE",
        help="with --method mrefsr: feature_extraction_network.pth of C2-Matching, if --mrefsr was trained"
        " with it",
    )
    add(
        "--vgg",
        metavar="FILE",
        help="with --method mrefsr: the VGG that --mrefsr was trained with (default: fetched)",
    )


def check_method_flags(args: argparse.Namespace) -> None:
    """Refuse flags of a method that is not run.

    Raises:
        InputError: such a flag is given.
    """
    for name in ("mrefsr", "extractor", "vgg"):
        if args.method != "mrefsr" and getattr(args, name) is not None:
            raise InputError(f"--{name} {getattr(args, name)}: is for --method mrefsr; add that flag")
