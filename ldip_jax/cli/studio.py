"""`ldip studio`: a page in the browser to sharpen clips with stills."""

import argparse
import os
import signal
import socket
import threading
import webbrowser
from contextlib import suppress

from ldip_jax.command import file_or_folder, memory_size, need_extra
from ldip_jax.errors import InputError

_DESCRIPTION = """\
Open a page in the browser: drop a clip and stills there, see which still matches which part of the clip,
preview a few frames, upscale the clip and download it. Only this machine can reach the page, and nothing is
sent elsewhere. Files are kept in a folder of temporary files (TMPDIR) until the page or the command ends.
"""
PORT = 8471


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port, 1 to 65535, or 0 for any that is free")
    return int(text)


def add_parser(subparsers: argparse._SubParsersAction) -> None:
    """Adds the command to `ldip`."""
    parser = subparsers.add_parser(
        "studio", help="a page in the browser to sharpen a clip with stills", description=_DESCRIPTION
    )
    add = parser.add_argument
    add(
        "--port",
        type=_port,
        help=f"port of the page; 0: any free one (default: {PORT}, or any free one if it is taken)",
    )
    add("--no-browser", action="store_true", help="only print the page's address")
    add(
        "--max-upload",
        type=memory_size,
        metavar="SIZE",
        default="2G",
        help="how much the clip and stills of a page may take, such as 500M or 20G (default: %(default)s)",
    )
    add(
        "--backbone",
        metavar="NAME|FILE",
        default="basicvsr-reds4",
        help="the network that upscales; see ldip upscale (default: %(default)s)",
    )
    add(
        "--lrrf",
        metavar="default|none|NAME|FILE",
        default="default",
        help="the module that uses stills; see ldip upscale (default: %(default)s)",
    )
    parser.set_defaults(run=run, own_signals=True)


def run(args: argparse.Namespace) -> int:
    """Serves the page until Ctrl-C; returns the exit code 0."""
    need_extra("studio")
    import uvicorn

    from ldip_jax.studio.server import HOST, Studio, make_app

    if hasattr(signal, "SIGHUP"):
        # A terminal that is closed ends the server in good order.
        signal.signal(signal.SIGHUP, lambda *_: signal.raise_signal(signal.SIGTERM))
    # Files of weights are named from where the command was started.
    words = ["--backbone", _absolute(args.backbone), "--lrrf", _absolute(args.lrrf)]
    with _bound(HOST, args.port) as bound:
        studio = Studio(args.max_upload, words)
        try:
            address = f"http://{HOST}:{bound.getsockname()[1]}/"
            print(f"ldip studio: {address} (Ctrl-C ends it and removes its files)", flush=True)
            if not args.no_browser:
                threading.Timer(1.0, webbrowser.open, [address]).start()
            config = uvicorn.Config(
                make_app(studio),
                ws="none",
                log_level="warning",
                access_log=False,
                timeout_graceful_shutdown=2,
            )
            # The server ends in good order, and hands Ctrl-C on.
            with suppress(KeyboardInterrupt):
                uvicorn.Server(config).run(sockets=[bound])
        finally:
            studio.close()
    return 0


def _absolute(name: str) -> str:
    path = file_or_folder(name)
    return str(path.absolute()) if path.exists() else name


def _bound(host: str, port: int | None) -> socket.socket:
    """A socket for the page.

    Raises:
        InputError: the port is taken or not allowed.
    """
    for number in [PORT, 0] if port is None else [port]:
        bound = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if os.name == "posix":
            # The port is free again at once after the last studio. Elsewhere, this would share it.
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((host, number))
            # A browser that is faster than the server waits, and is not refused.
            bound.listen()
            return bound
        except OSError as error:
            bound.close()
            reason = error.strerror
    raise InputError(f"--port {port}: cannot be used ({reason}); choose another, or 0 for any that is free")
