"""The `recordd` command: `serve`, `config` to see what would be in force, and those over a file.

Exit codes: 0 after SIGTERM or SIGINT; 78 (EX_CONFIG) where only the operator can help, a
bad configuration or a database that must not be opened; 75 (EX_TEMPFAIL) where another
start may succeed; 74 (EX_IOERR) where standard
output cannot be written; 1 for other failures; 2 usage.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import trio

from recordd.config.backend_table import MOVED_OPTIONS
from recordd.config.reloading import Reload
from recordd.config.rules import format_age
from recordd.config.settings import (
    Configuration,
    ConfigurationError,
    SettingInfo,
    describe_settings,
    load,
)
from recordd.daemon import configured_extensions, run_daemon
from recordd.extending.backend import FatalBackendError, NotConfigured, PersistenceError
from recordd.extending.extensions import ExtensionError
from recordd.extending.options import describe_options, read_options
from recordd.persistence.backends import OptionValue, describe_backend, state_options
from recordd.persistence.sqlite.commands import COMMANDS, add_arguments, run_file_command
from recordd.persistence.sqlite.files import FileError
from recordd.persistence.sqlite.options import SqliteOptions
from recordd.system.log import configure_logging
from recordd.system.passing import PassingError
from recordd.system.standard_streams import OutputFailed, fill_standard_streams, printing
from recordd_protocol.errors import RecorddError

__all__ = ["main"]

_EX_IOERR: Final = 74
_EX_CONFIG: Final = 78
_EX_TEMPFAIL: Final = 75
_FLAGS: Final = {
    "socket": "PATH",
    "listen": "HOST:PORT",
    "database": "PATH",
    "backend": "NAME",
    "retention": "AGE",
    "log-level": "LEVEL",
    "log-format": "FORMAT",
}
"""Settings that have a flag; the others come by environment and file."""

_OPERATORS: Final = (PersistenceError, ConfigurationError, ExtensionError)
"""What only a person can mend."""

_SUMMARIES: Final = {
    "serve": "run the daemon (the default)",
    "config": "print the settings in force, and where each came from",
    **{command: summary for command, (summary, _) in COMMANDS.items()},
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit code."""
    fill_standard_streams()
    try:
        with _printing_to_exit():
            return _run(arguments)
    except OutputFailed as error:
        return _fail(str(error), _EX_IOERR)
    except KeyboardInterrupt:  # before the daemon takes its signals
        return 130


@contextlib.contextmanager
def _printing_to_exit() -> Iterator[None]:
    """Have the parser's own help and version out before it exits."""
    try:
        yield
    except SystemExit:
        with printing():
            pass
        raise


def _run(arguments: Sequence[str] | None) -> int:
    options = _build_parser().parse_args(_with_command(arguments))
    try:
        flags = {
            key: value
            for flag in _FLAGS
            if (value := getattr(options, key := flag.replace("-", "_"), None)) is not None
        }
        read = functools.partial(load, flags, dict(os.environ), _find_file(options.config))
        if options.command in COMMANDS:
            return _run_on_file(options, read())
        reload = functools.partial(_check, read)
        configuration = reload()
        if options.command == "config":
            with printing():
                _print_configuration(configuration)
            return 0
        return _serve(configuration, reload, accept_loss=options.accept_loss)
    except (ConfigurationError, NotConfigured) as error:
        return _fail(str(error), _EX_CONFIG)


def _check(read: Reload) -> Configuration:
    """Read the configuration, and have its backend look at its options.

    Raises:
        ConfigurationError: where it, or they, cannot be used.
    """
    configuration = read()
    try:
        describe_backend(configuration)
    except NotConfigured as error:
        raise ConfigurationError(str(error)) from None
    return configuration


def _serve(configuration: Configuration, reload: Reload, *, accept_loss: bool) -> int:
    settings = configuration.settings
    configure_logging(settings.log_level, settings.log_format)
    for variable in configuration.ignored:
        logging.getLogger("recordd").warning("%s in the environment is no setting", variable)
    try:
        extensions = configured_extensions(configuration, accept_loss=accept_loss)
        serve = functools.partial(run_daemon, configuration, extensions, reload=reload)
        trio.run(serve)
    except (RecorddError, BaseExceptionGroup) as raised:
        error = _innermost(raised)
        if not isinstance(error, RecorddError):
            raise
        return _fail(str(error), _exit_code_of(error))
    return 0


def _run_on_file(options: argparse.Namespace, configuration: Configuration) -> int:
    name = configuration.settings.backend
    if name != "sqlite":
        return _fail(f"backend {name!r} has no file: only sqlite's has", _EX_CONFIG)
    stated = state_options(SqliteOptions, configuration.backend)
    return run_file_command(options, read_options(SqliteOptions, stated).database)


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="recordd", description="A record database daemon.", allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"recordd {version('recordd')}")
    commands = parser.add_subparsers(dest="command", required=True)
    reasons = {info.key: info.reason for info in describe_settings()}
    reasons |= {info.key: info.reason for info in describe_options(SqliteOptions)}
    for command, summary in _SUMMARIES.items():
        sub = commands.add_parser(command, help=summary, description=summary, allow_abbrev=False)
        sub.add_argument("--config", metavar="FILE", help="TOML file with settings and rules")
        for flag, metavar in _FLAGS.items():
            if command in COMMANDS and flag != "database":
                continue
            reason = reasons[flag.replace("-", "_")]
            sub.add_argument(f"--{flag}", metavar=metavar, help=reason)
        add_arguments(command, sub)
    commands.choices["serve"].add_argument(
        "--accept-loss",
        action="store_true",
        help="start although acknowledged commits are missing, in a new epoch",
    )
    return parser


def _with_command(arguments: Sequence[str] | None) -> list[str]:
    """Put in `serve`, the command that may be left out."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given[:1] and given[0] in (*_SUMMARIES, "-h", "--help", "--version"):
        return given
    return ["serve", *given]


def _find_file(flag: str | None) -> Path | None:
    name = flag or os.environ.get("RECORDD_CONFIG")
    return Path(name) if name else None


def _print_configuration(configuration: Configuration) -> None:
    lines = []
    for info in describe_settings():
        value = _show(info, getattr(configuration.settings, info.attribute))
        lines.append((info.key, value, configuration.sources[info.key]))
        if info.key == "backend":
            lines += [_show_option(option) for option in describe_backend(configuration)]
    for name, table in configuration.extensions.items():
        source = configuration.sources["extension"]
        lines += [(f"extension.{name}.{key}", _show_value(table[key]), source) for key in table]
    width = max(len(key) for key, _, _ in lines)
    for key, value, source in lines:
        print(f"{key:<{width}} = {value:<34} # {source}")
    for rule in configuration.rules.rules:
        print(
            f"record {rule.pattern.text!r}: persist={rule.persist} buffer={rule.buffer}"
            f" capacity={rule.capacity} writable={rule.writable}"
            f" retention={format_age(rule.retention_ms)} max_rows={rule.max_rows}"
        )


def _show_option(option: OptionValue) -> tuple[str, str, str]:
    """Name an option as it may be stated; those that were settings have kept their names."""
    key = option.key if option.key in MOVED_OPTIONS else f"backend.{option.key}"
    return key, _show_value(option.value), option.source


def _show(info: SettingInfo, value: Any) -> str:
    return format_age(value) if info.unit == "age" else _show_value(value)


def _show_value(value: Any) -> str:
    if isinstance(value, list):
        return ",".join(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def _innermost(raised: BaseException) -> BaseException:
    """Return the one exception that nurseries wrapped in groups, or the group of several."""
    while isinstance(raised, BaseExceptionGroup) and len(raised.exceptions) == 1:
        raised = raised.exceptions[0]
    return raised


def _exit_code_of(error: RecorddError) -> int:
    """A restart mends a fault that came while running, but no file that was refused."""
    if isinstance(error, PassingError):
        return _EX_TEMPFAIL
    if isinstance(error, FatalBackendError):
        return 1
    if isinstance(error, FileError):
        return error.exit_code
    return _EX_CONFIG if isinstance(error, _OPERATORS) else 1


def _fail(text: str, code: int) -> int:
    print(f"recordd: {text}", file=sys.stderr)
    return code
