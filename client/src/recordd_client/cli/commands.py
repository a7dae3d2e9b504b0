"""The commands of `recordctl`."""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import click
import msgspec

from recordd_client.addresses import find_address
from recordd_client.blocking import Client, connect
from recordd_client.cli.output import (
    FORMATS,
    STREAM_FORMATS,
    print_objects,
    print_rows,
    print_updates,
)
from recordd_client.cli.times import format_time, parse_time
from recordd_client.following import Resync

if TYPE_CHECKING:
    from recordd_client.cli.transfer import Survey

__all__ = ["recordctl"]

F = TypeVar("F", bound=Callable[..., Any])


class _Time(click.ParamType[int]):
    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return value if isinstance(value, int) else parse_time(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


_format_option = click.option(
    "--format", type=click.Choice(FORMATS), default="table", show_default=True, help="Output form."
)
_start_option = click.option("--start", type=_Time(), help="Not before, as in -2h or 2013-01-31.")
_end_option = click.option("--end", type=_Time(), help="Not after.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.option(
    "--connect",
    "url",
    metavar="URL",
    envvar="RECORDD_CONNECT",
    help="unix:///path or ws://host:port/ws; default the daemon's own socket.",
)
@click.option(
    "--timeout",
    "timeout_s",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds for each call.",
)
@click.version_option(package_name="recordd-client", prog_name="recordctl")
@click.pass_context
def recordctl(context: click.Context, url: str | None, timeout_s: float) -> None:
    """Read and write the records of a recordd daemon."""
    context.obj = (url, timeout_s)


@recordctl.command("ls")
@click.argument("pattern", default="#")
@_format_option
@click.pass_obj
def list_records(target: tuple[str | None, float], pattern: str, format: str) -> None:
    """List the records that match PATTERN, with the time of their latest value."""
    with _connect(target) as db:
        infos = list(_all_infos(db, pattern))
    if format != "table":
        print_objects(map(msgspec.to_builtins, infos), format)
        return
    print_objects(
        (
            {
                "record": info.name,
                "latest": "" if info.ts is None else format_time(info.ts),
                "rev": info.rev,
                "buffer": info.buffer_type,
                "writable": "yes" if info.writable else "no",
            }
            for info in infos
        ),
        format,
    )


@recordctl.command("get")
@click.argument("name")
@click.option(
    "--format", type=click.Choice(("value", *FORMATS)), default="value", show_default=True
)
@click.pass_obj
def get_record(target: tuple[str | None, float], name: str, format: str) -> None:
    """Print the latest value of the record NAME."""
    with _connect(target) as db:
        row = db.get(name, as_type=msgspec.Raw)
    if format == "value":
        click.echo(bytes(row.value))
    else:
        print_rows([row], format)


class _TakesNegativeNumbers(click.Command):
    """A command whose arguments may be numbers below 0, which look like options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.ignore_unknown_options = True
        given = list(args)  # the parser takes it apart
        rest = super().parse_args(ctx, args)
        for value in ctx.params.values():
            is_option = isinstance(value, str) and re.match(r"-(?!\d|$)", value)
            if is_option and "--" not in given and value in given:
                raise click.NoSuchOption(value, ctx=ctx)
        return rest


@recordctl.command("set", cls=_TakesNegativeNumbers)
@click.argument("name")
@click.argument("value")
@click.option("--ts", type=_Time(), help="Time of the value; default now.")
@click.option("--if-rev", type=int, help="Only if the record is at this rev (0: does not exist).")
@click.option("--string", is_flag=True, help="VALUE is text, not JSON.")
@click.pass_obj
def set_record(
    target: tuple[str | None, float],
    name: str,
    value: str,
    *,
    ts: int | None,
    if_rev: int | None,
    string: bool,
) -> None:
    """Write VALUE, which is JSON, to the record NAME; - reads it from standard input.

    A NAME or text that begins with - goes behind --.
    """
    text = sys.stdin.read() if value == "-" else value
    raw = _quote(text) if string else _check_json(text)
    with _connect(target) as db:
        written = db.set(name, raw, ts=ts, if_rev=if_rev)
    late = ", late: an earlier value than the latest" if written.late else ""
    click.echo(f"rev {written.rev}, {format_time(written.ts)}{late}")


@recordctl.command("query")
@click.argument("pattern", default="#")
@click.option("--limit", default=None, help="Latest so many rows of each record, or 'all'.")
@_start_option
@_end_option
@_format_option
@click.pass_obj
def query_records(
    target: tuple[str | None, float],
    pattern: str,
    *,
    limit: str | None,
    start: int | None,
    end: int | None,
    format: str,
) -> None:
    """Print the latest value of each record that matches PATTERN, or their history.

    With --start or --end, all rows of that time, unless --limit says otherwise.
    """
    is_range = start is not None or end is not None
    rows_each = _parse_limit(limit, default=None if is_range else 1)
    with _connect(target) as db:
        if is_range or rows_each is None:
            page = db.query_range(pattern, start, end, rows_each, as_type=msgspec.Raw)
        else:
            page = db.query_latest(pattern, rows_each, as_type=msgspec.Raw)
    print_rows(page.rows, format)


@recordctl.command("replay")
@click.argument("pattern", default="#")
@click.option("--after", default=0, help="Commit number to start behind.")
@click.option("--limit", type=click.IntRange(min=0), help="At most so many rows.")
@_format_option
@click.pass_obj
def replay_log(
    target: tuple[str | None, float], pattern: str, *, after: int, limit: int | None, format: str
) -> None:
    """Print rows in the order of their commits."""
    with _connect(target) as db:
        print_rows(_replay(db, pattern, after, limit), format)


@recordctl.command("watch")
@click.argument("pattern", default="#")
@click.option("--after", type=int, help="Commit number to resume behind.")
@click.option("--no-snapshot", is_flag=True, help="Do not begin with the current values.")
@click.option("--every", is_flag=True, help="Leave nothing out, however slowly it is read.")
@click.option("--format", type=click.Choice(STREAM_FORMATS), default="text", show_default=True)
@click.pass_obj
def watch_records(
    target: tuple[str | None, float],
    pattern: str,
    *,
    after: int | None,
    no_snapshot: bool,
    every: bool,
    format: str,
) -> None:
    """Print the current value of each record that matches PATTERN, and then every update.

    Goes on until Ctrl-C, also when the daemon is away for a while.
    """

    def tell(resync: Resync) -> None:
        text = f"updates are lost; the current values as of rev {resync.rev} follow"
        click.echo(f"recordctl: {text}", err=True)

    with (
        _connect(target) as db,
        db.subscribe(
            pattern,
            snapshot=not no_snapshot,
            after=after,
            delivery="every" if every else "latest",
            on_resync=tell,
            as_type=msgspec.Raw,
        ) as updates,
    ):
        print_updates(updates, format)


@recordctl.command("stats")
@click.option("--format", type=click.Choice(("table", "json")), default="table", show_default=True)
@click.pass_obj
def show_stats(target: tuple[str | None, float], format: str) -> None:
    """Print the daemon's counters, sizes and queue depths."""
    with _connect(target) as db:
        stats = msgspec.to_builtins(db.stats())
    _print_tree(stats, format)


@recordctl.command("future")
@click.argument("pattern", default="#")
@click.option("--beyond", type=_Time(), help="Rows ahead of this time; default now.")
@click.option("--mend", is_flag=True, help="Delete those rows.")
@_format_option
@click.pass_obj
def show_future(
    target: tuple[str | None, float],
    pattern: str,
    *,
    beyond: int | None,
    mend: bool,
    format: str,
) -> None:
    """List the records that match PATTERN whose latest value is ahead of now.

    A clock that was set wrong leaves them behind; until they are mended, true values are
    late. --mend deletes the rows ahead; the newest row that is left is the latest again.
    """
    beyond = parse_time("now") if beyond is None else beyond
    with _connect(target) as db:
        ahead = [i for i in _all_infos(db, pattern) if i.ts is not None and i.ts > beyond]
        shown = []
        for info in ahead:
            deleted = {"deleted": db.trim(info.name, beyond)} if mend else {}
            latest = format_time(info.ts) if format == "table" else info.ts
            shown.append({"record": info.name, "latest": latest, **deleted})
    print_objects(shown, format)


@recordctl.group("retention")
def retention() -> None:
    """Show retention's state, and confirm the clock after a leap."""


@retention.command("show")
@click.option("--format", type=click.Choice(("table", "json")), default="table", show_default=True)
@click.pass_obj
def show_retention(target: tuple[str | None, float], format: str) -> None:
    """Print the rules, the last run, and whether retention believes the clock."""
    with _connect(target) as db:
        stats = db.stats().retention
    _print_tree({} if stats is None else msgspec.to_builtins(stats), format)


@retention.command("confirm")
@click.pass_obj
def confirm_clock(target: tuple[str | None, float]) -> None:
    """Say that the daemon's clock is right, though it leapt: rows past their age go at once."""
    with _connect(target) as db:
        leap_ms = db.retention_confirm()
    click.echo(
        f"confirmed: the clock had leapt {leap_ms / 3_600_000:,.1f} hours; retention runs"
        if leap_ms
        else "there is no leap to confirm; retention runs"
    )


@recordctl.command("ping")
@click.option(
    "--count", type=click.IntRange(min=1), default=1, show_default=True, help="How many times."
)
@click.pass_obj
def ping(target: tuple[str | None, float], count: int) -> None:
    """Ask the daemon for its version, and measure how long the answer takes."""
    with _connect(target) as db:
        for _ in range(count):
            started = time.perf_counter()
            welcome = db.hello("recordctl")
            elapsed_ms = (time.perf_counter() - started) * 1000
            url = find_address(target[0]).url
            click.echo(
                f"recordd {welcome.server_version} at {url}: rev {welcome.rev}, {elapsed_ms:.2f} ms"
            )


@recordctl.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, allow_dash=True))
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), help="Rows a second at most.")
@click.pass_obj
def import_rows(target: tuple[str | None, float], file: str, rate: float | None) -> None:
    """Write the lines of FILE, NDJSON or NDJSON.gz: {"name": …, "value": …, "ts": ms}.

    FILE may be a pipe, or - for standard input: it is read as it comes. A file is looked
    through first, so that nothing is sent of one that has a bad line.
    """
    from recordd_client.cli.transfer import Importer, Survey, open_source

    started = time.monotonic()
    with _connect(target) as db, open_source(file) as source:
        survey, importer = Survey(db.stats().retention), Importer(db, rate)
        try:
            if source.can_rewind:
                for lines in source.read():
                    survey.count(lines)
                _warn_of_expired(survey)
            with _progress("importing", survey.rows or None) as advance:
                for lines in source.read():
                    for rows in importer.write(lines):
                        advance(rows)
                    if not source.can_rewind:
                        survey.count(lines)
        except BaseException as error:
            error.add_note(importer.standing)
            raise
        if not source.can_rewind:
            _warn_of_expired(survey)
    elapsed_s = max(time.monotonic() - started, 1e-9)
    click.echo(
        f"{importer.rows:,} rows in {elapsed_s:.1f} s, {importer.rows / elapsed_s:,.0f} a second"
    )


def _warn_of_expired(survey: Survey) -> None:
    if survey.expired:
        click.echo(
            f"recordctl: {survey.expired:,} of {survey.rows:,} rows are older than the"
            " daemon's retention and will be deleted by its next run",
            err=True,
        )


@recordctl.command("export")
@click.argument("pattern", default="#")
@_start_option
@_end_option
@click.option("--format", type=click.Choice(("ndjson", "csv")), default="ndjson", show_default=True)
@click.pass_obj
def export(
    target: tuple[str | None, float],
    pattern: str,
    *,
    start: int | None,
    end: int | None,
    format: str,
) -> None:
    """Print all rows of the records that match PATTERN, by time; `import` reads them back."""
    from recordd_client.cli.transfer import export_rows

    with _connect(target) as db, _progress("exporting", db.count(pattern).rows) as advance:

        def counted() -> Iterator[Any]:
            for row in export_rows(db, pattern, start=start or 0, end=end):
                yield row
                advance(1)

        print_rows(counted(), format)


def _connect(target: tuple[str | None, float]) -> contextlib.AbstractContextManager[Client]:
    url, timeout_s = target
    return connect(url, timeout_s=timeout_s)


def _all_infos(db: Client, pattern: str) -> Iterator[Any]:
    after = -1
    while infos := db.list(pattern, after=after, limit=1000):
        yield from infos
        after = infos[-1].record_id


def _replay(db: Client, pattern: str, after: int | str, limit: int | None) -> Iterator[Any]:
    while limit is None or limit > 0:
        page = db.replay(after, name=pattern, limit=limit, as_type=msgspec.Raw)
        if page.oldest_rev is not None and isinstance(after, int) and after > 0:
            text = f"rows above rev {after} are gone; from rev {page.oldest_rev} on none is missing"
            click.echo(f"recordctl: {text}", err=True)
        yield from page.rows
        if page.next is None:
            return
        after = page.next
        limit = None if limit is None else limit - len(page.rows)


def _parse_limit(text: str | None, *, default: int | None) -> int | None:
    if text is None:
        return default
    if text == "all":
        return None
    if not text.isdecimal():
        raise click.BadParameter(f"{text!r} is neither a number nor 'all'", param_hint="--limit")
    return int(text)


def _quote(text: str) -> msgspec.Raw:
    try:
        return msgspec.Raw(msgspec.json.encode(text))
    except UnicodeError as error:
        raise click.BadParameter(f"not UTF-8 ({error})", param_hint="VALUE") from None


def _check_json(text: str) -> msgspec.Raw:
    try:
        given = text.strip().encode()
        msgspec.json.decode(given)
    except (msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise click.BadParameter(
            f"not JSON ({error}); text needs --string, or quotes of its own: '\"text\"'",
            param_hint="VALUE",
        ) from None
    return msgspec.Raw(given)


def _print_tree(tree: dict[str, Any], format: str) -> None:
    if format == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(tree).decode(), indent=2))
    else:
        print_objects(({"what": key, "value": value} for key, value in _flatten(tree)), format)


def _flatten(tree: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{key}.")
        elif isinstance(value, list):
            for index, item in enumerate(value):
                yield from _flatten(item, f"{prefix}{key}[{index}].")
        else:
            shown = format_time(value) if key.endswith("_at_ms") and value else value
            yield prefix + key, shown


@contextlib.contextmanager
def _progress(what: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """Show a bar on standard error, if people look at it."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(what, total=total)
        yield lambda rows: progress.advance(task, rows)
