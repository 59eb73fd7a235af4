"""``pruning-client``: the command line."""

from __future__ import annotations

import errno
import sys
import warnings

import typer

from latency_service.core import exit_codes
from latency_service.core.terminal.options import shows
from latency_service.core.transport import ApiError
from latency_service.spaces.errors import SpaceError
from pruning_client.cli.compare import compare
from pruning_client.cli.compare_methods import compare_methods
from pruning_client.cli.compress import compress
from pruning_client.cli.exits import EXIT_CODES, fail
from pruning_client.cli.expand import takes_options
from pruning_client.cli.methods import methods
from pruning_client.cli.prune import prune
from pruning_client.cli.report import report
from pruning_client.cli.space import space
from pruning_client.cli.sweep import fastest, sweep
from pruning_client.errors import PruningError

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, epilog=EXIT_CODES)
for with_options in (prune, sweep, fastest, compress):
    app.command(epilog=EXIT_CODES)(shows(takes_options(with_options)))
app.command(epilog=EXIT_CODES)(
    shows(takes_options(compare_methods, without=("method", "method_option")))
)
for plain in (compare, methods, report, space):
    app.command(epilog=EXIT_CODES)(shows(plain))


@app.callback()
def root() -> None:
    """Prune CNNs to a latency budget that is proven by measuring on the device."""


#: Errors of a disk that takes no more.
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS})


def _show_warning(message: Warning | str, *_args: object, **_more: object) -> None:
    print(f"warning: {message}", file=sys.stderr)


def main() -> None:
    """Run the command line; an error prints its cause and cure and sets the exit code."""
    as_json = "--json" in sys.argv
    warnings.showwarning = _show_warning
    try:
        app()
    except PruningError as error:
        fail(error.message, error.cure, error.code, error.exit_code, as_json=as_json)
    except SpaceError as error:
        fail(str(error), "", "invalid_model", exit_codes.INVALID, as_json=as_json)
    except ApiError as error:
        fail(error.message, error.cure, error.code, exit_codes.of_error(error), as_json=as_json)
    except OSError as error:
        if error.errno not in _FULL:
            raise
        place = f"{error.filename}: " if error.filename else ""
        fail(
            f"{place}{error.strerror}.",
            "Make room. A job that was stopped goes on with --resume.",
            "failed",
            PruningError.exit_code,
            as_json=as_json,
        )
