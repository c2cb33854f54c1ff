"""Tracking stores: what a URI means, SQLite files that are made whole and mended, errors in plain words.

An SQLite store is made beside and renamed under a lock, so a kill at any moment leaves no half of one.
It is a view: a file that is broken, or that was never finished, is set aside and made anew.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import sqlite3
import warnings
from collections.abc import Callable
from contextlib import closing
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from alharness import files
from alharness.errors import UserError

Tell = Callable[[str], None]

#: Schemes that MLflow itself knows; plug-ins of MLflow add theirs.
SERVERS = ("http", "https", "databricks", "databricks-uc", "uc")
DATABASES = ("sqlite", "mysql", "postgresql", "mssql")

#: Where the files of its runs lie, below the folder of an SQLite store.
FILES = "/mlflow/artefacts"

#: Another process may be making the database: seconds, or a minute on a machine that is full.
LOCK_S = 120.0

#: A whole check of a larger file would be felt at the start of every run.
CHECKED_BYTES = 64 * 2**20


def default_uri(runs_dir: Path) -> str:
    """An embedded SQLite store beside the runs."""
    return sqlite_uri((runs_dir / "mlflow.db").resolve())


def sqlite_uri(path: Path) -> str:
    """The URI of an SQLite file, whatever signs its path has.

    A ``%`` or ``?`` means something in a URI, and not the same to every SQLAlchemy; the spelling that
    the installed one reads back as this path is taken.
    """
    text = str(path)
    if not set("%?") & set(text):
        return f"sqlite:///{text}"
    # With its driver named, MLflow does not make a folder of the quoted name.
    plain = f"sqlite+pysqlite:///{text}"
    for uri in (plain, f"sqlite+pysqlite:///{quote(text)}"):
        if _database(uri) == text:
            return uri
    return f"sqlite+pysqlite:///file:{quote(text)}?uri=true"


def _database(uri: str) -> str | None:
    """The file behind an SQLite URI, as SQLAlchemy reads it."""
    if not set("%?") & set(uri):  # nothing to read: a third of a second of imports less
        return uri.partition(":///")[2] or None

    from sqlalchemy.engine import make_url

    url = make_url(uri)
    if "uri" in url.query and url.database is not None:
        return unquote(urlsplit(url.database).path)
    return None if url.query else url.database


def scheme_of(uri: str) -> str:
    """``sqlite``, ``https``, ...; empty for a path."""
    if uri.split(":")[0] in ("databricks", "databricks-uc", "uc"):
        return uri.split(":")[0]
    scheme, colon, _ = uri.partition(":")
    return scheme.partition("+")[0].lower() if colon and len(scheme) > 1 else ""


def sqlite_path(uri: str) -> Path | None:
    """The file of an SQLite store; None for another kind."""
    if scheme_of(uri) != "sqlite":
        return None
    found = _database(uri)
    return Path(found).absolute() if found else None


def check_uri(uri: str) -> str:
    """The URI of a store, spelled so that MLflow takes it.

    Raises:
        UserError: it cannot be a store, whatever runs where.
    """
    scheme = scheme_of(uri)
    example = f"sqlite:///{Path('mlflow.db').absolute()}"
    if scheme in ("", "file"):
        raise UserError(
            f"The tracking URI '{uri}' is a folder of files, which is not supported. Use a database, "
            f"for instance {shlex.quote(example)}, a server (http://HOST:PORT), or name none "
            "(--tracking-uri, MLFLOW_TRACKING_URI; in Python tracking=True). Without MLflow: "
            "--no-tracking, in Python tracking=False."
        )
    known = [*SERVERS, *DATABASES, *entry_points(group="mlflow.tracking_store").names]
    if scheme not in known:
        raise UserError(
            f"The tracking URI '{shown(uri)}' begins with '{scheme}:', which MLflow does not know. "
            f"Expected one of {', '.join(sorted(known))}; for instance {shlex.quote(example)}."
        )
    if scheme != "sqlite":
        return uri
    head, slashes, text = uri.partition(":///")
    if not slashes or not text or ":memory:" in text:
        raise UserError(
            f"The tracking URI '{uri}' names no file. Expected sqlite:///PATH, for instance "
            f"{shlex.quote(example)}."
        )
    literal = Path(text).absolute()
    if set("%?") & set(text) and literal.parent.is_dir():
        return sqlite_uri(literal)  # typed as the file system writes it
    if "?" in text and "uri=true" not in text:
        raise UserError(
            f"The tracking URI '{uri}' has a '?', after which options begin, and '{literal.parent}' "
            "is no folder. Make the folder first, or choose another."
        )
    return uri if text.startswith(("/", "file:")) else f"{head}:///{literal}"


def shown(uri: str) -> str:
    """A URI without its password."""
    return re.sub(r"(//[^/@:]*):[^@/]*@", r"\1:***@", uri)


def load_mlflow() -> Any:
    """mlflow, imported when first needed (2 s) and without its telemetry.

    Raises:
        UserError: it is not installed, or does not fit what is installed beside it.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # A run would print its address into whatever is shown.
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    # A dead server must not hold up a run: the default is minutes of retries.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import mlflow

            # Between the two: the first sets levels, the second makes alembic tell what it loads.
            logging.getLogger("alembic").setLevel(logging.WARNING)
            logging.getLogger("mlflow").setLevel(logging.ERROR)
            import mlflow.store.tracking.sqlalchemy_store
    except Exception as error:  # an MLflow beside the wrong SQLAlchemy fails in many ways
        raise UserError(
            f"MLflow cannot be imported ({type(error).__name__}: {first_line(error)}). Mend it with "
            "'pip install -U mlflow', or keep records only with --no-tracking."
        ) from error
    return mlflow


def first_line(error: BaseException) -> str:
    """What an exception says, in one line and without an end that is cut off inside a word."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[0] if lines else type(error).__name__
    return text if len(text) <= 240 else text[:240].rsplit(" ", 1)[0] + " ..."


def store_error(uri: str, error: Exception) -> UserError:
    """Why a store cannot be used, and what to do about it."""
    if isinstance(error, UserError):
        return error
    where, text = f"'{shown(uri)}' " if uri else "", str(error)
    if "mlflow db upgrade" in text or "out-of-date database schema" in text:
        found = re.search(r"found version (\w+)", text)
        return UserError(_other_version(uri, found[1] if found else ""))
    if isinstance(error, TimeoutError):
        return UserError(f"MLflow's store {where}took too long: {first_line(error)}.")
    if scheme_of(uri) not in SERVERS:
        return UserError(f"The tracking store {where}cannot be used: {first_line(error)}.")
    if "Max retries exceeded" in text or "Connection" in type(error).__name__:
        reason = "refused" if "refused" in text else "could not be reached"
        for sign in ("timed out", "Name or service not known", "Failed to resolve"):
            reason = sign.lower() if sign in text else reason
        return UserError(
            f"The tracking server {where}does not answer ({reason}). Start it, or give another "
            "--tracking-uri."
        )
    return UserError(f"The tracking server {where}answered: {first_line(error)}.")


def _other_version(uri: str, revision: str) -> str:
    found = f"the version '{revision}' of its" if revision else "another version's"
    told = f"The tracking database has {found} tables, not those of the MLflow that is installed."
    path = sqlite_path(uri)
    # 'mlflow db upgrade' goes up from what it knows: tables of a later MLflow it cannot locate.
    if path is None or not revision or _knows(revision):
        return f"{told} Take a copy of it and run: mlflow db upgrade {shlex.quote(uri)}"
    aside = shlex.join(["mv", str(path), f"{path}.other-version"])
    return (
        f"{told} They are of a later one: install that, or move the database away ({aside}); 'alharness "
        "sync' makes the view anew from the records."
    )


def _knows(revision: str) -> bool:
    """Whether the installed MLflow can go up from a version of the tables."""
    from alembic.util.exc import CommandError

    try:
        return _migrations().get_revision(revision) is not None
    except CommandError:
        return False


def ready_database(path: Path, *, mend: bool, tell: Tell) -> None:
    """See that an SQLite file is one that MLflow can open: made where absent, mended where broken.

    Args:
        path: the database.
        mend: set a broken one aside and make another; else it is refused.
        tell: told in one sentence where a file was set aside.

    Raises:
        UserError: the place cannot be written, the file is another program's, or of another MLflow.
    """
    load_mlflow()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _no_place(path, error) from error
    lock = path.with_name(path.name + ".lock")
    busy = f"Another process has held '{lock}' for {LOCK_S:.0f} s. Stop it and try again."
    # One process at a time makes or mends a database: two at once break each other.
    with files.locked(lock, LOCK_S, busy=busy, refused=lambda error: _no_place(path, error)):
        reason = _broken(path) if path.exists() else ""
        if reason and not mend:
            raise UserError(
                f"The MLflow database '{path}' is broken ({reason}). 'alharness sync' sets it aside "
                "and makes the view anew from the records."
            )
        if reason:
            aside = _set_aside(path)
            tell(
                f"The MLflow database '{path}' was broken ({reason}): it is now '{aside.name}' beside "
                "a new one; 'alharness sync' brings earlier runs back into the view."
            )
        if not path.exists():
            _make(path)


def _no_place(path: Path, error: Exception) -> UserError:
    reason = getattr(error, "strerror", None) or first_line(error)
    return UserError(
        f"The MLflow database '{path}' cannot be kept there: {reason}. Choose another --tracking-uri, "
        "or keep records only with --no-tracking."
    )


#: Tables that every version of MLflow has.
OURS = {"experiments", "runs", "metrics", "params", "tags"}


def _broken(path: Path) -> str:
    """Why a database can only be made anew; empty when it can be used.

    Raises:
        UserError: it cannot be read here, or is not ours to set aside.
    """
    if not path.is_file() or not os.access(path, os.R_OK | os.W_OK):
        what = "it is a folder" if path.is_dir() else "no permission to write"
        raise _no_place(path, PermissionError(what))
    with path.open("rb") as file:
        head = file.read(16)
    # A file that a user named by mistake is not moved.
    if head and head != b"SQLite format 3\0" and path.name != "mlflow.db":
        raise UserError(f"'{path}' is no SQLite database. Name another with --tracking-uri.")
    try:
        # Not read-only: what a killed process began has to be rolled back first.
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=rw", uri=True)) as database:
            return _look_inside(path, database)
    except sqlite3.DatabaseError as error:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
            return str(error)
        if name.startswith("SQLITE_BUSY"):
            return ""  # in use, so it is a database
        raise _no_place(path, error) from error


def _look_inside(path: Path, database: sqlite3.Connection) -> str:
    tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
    if not tables:
        return "it is empty"
    if not tables & {*OURS, "alembic_version"}:
        raise UserError(
            f"'{path}' is the database of another program. Name another file with --tracking-uri."
        )
    if path.stat().st_size <= CHECKED_BYTES:
        (found,) = database.execute("PRAGMA quick_check(1)").fetchone()
        if found != "ok":
            return str(found).splitlines()[-1]
    if missing := OURS - tables:
        return f"it was never finished: no table '{sorted(missing)[0]}'"
    (n_runs,) = database.execute("SELECT COUNT(*) FROM runs").fetchone()
    rows = (
        database.execute("SELECT version_num FROM alembic_version").fetchall()
        if "alembic_version" in tables
        else []
    )
    # A kill may have come between the tables and their version.
    revision = str(rows[0][0]) if rows else ""
    if revision == _migrations().get_current_head():
        return ""
    if not n_runs:
        return "it was never finished, and holds no run"
    raise UserError(_other_version(sqlite_uri(path), revision))


def _migrations() -> Any:
    """The versions of the tables that the installed MLflow knows."""
    import mlflow
    from alembic.script import ScriptDirectory

    return ScriptDirectory(str(Path(mlflow.__file__).parent / "store" / "db_migrations"))


def _set_aside(path: Path) -> Path:
    """Rename a database, with what SQLite keeps beside it, to the first free name."""
    number = 1
    while (aside := path.with_name(f"{path.name}.broken-{number}")).exists():
        number += 1
    for ending in ("-journal", "-wal", "-shm", ""):
        file = path.with_name(path.name + ending)
        if file.exists():
            file.rename(aside.with_name(aside.name + ending))
    return aside


def _make(path: Path) -> None:
    """Make the database beside its place and rename it: nobody ever sees half of one."""
    with files.beside(path) as partial:
        for ending in ("-journal", "-wal", "-shm", ""):  # a killed process may have left its own
            partial.with_name(partial.name + ending).unlink(missing_ok=True)
        partial.touch()  # SQLite would make it readable for others and never writable for a group
        make_engine(sqlite_uri(partial), path)


def artefact_root(path: Path) -> Path:
    """Where an SQLite store keeps the files of its runs."""
    return Path(f"{path.parent}{FILES}")


def make_engine(uri: str, path: Path) -> Any:
    """Let MLflow make its engine (SQLAlchemy's) for a file so that no connection outlives its use.

    Kept ones would go on with a file that has been set aside since.
    """
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    name = "MLFLOW_SQLALCHEMYSTORE_POOLCLASS"
    before = os.environ.get(name)
    os.environ[name] = "NullPool"
    try:
        return SqlAlchemyStore(uri, artefact_root(path).as_uri()).engine
    finally:
        os.environ.pop(name)
        if before is not None:
            os.environ[name] = before
