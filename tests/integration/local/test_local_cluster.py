"""The embedded stack's writer and readers: real servers, killed and failed over."""

from __future__ import annotations

import signal
import stat
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psutil
import pymysql
import pytest

from cqrsctl.errors import CqrsctlError
from cqrsctl.local import client, database_cluster, database_server, engines, replication, roster, stack
from cqrsctl.local.engines import Engine
from cqrsctl.local.ports import LOOPBACK
from cqrsctl.local.state import StackState
from tests.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from pymysql.cursors import Cursor

READ_ONLY = 1290


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, database: str) -> Iterator[StackState]:
    state = StackState(tmp_path_factory.mktemp("cluster") / "local")
    stack.up(state, lambda _: None, database=database)
    yield state
    stack.down(state, wipe=True)


@pytest.fixture
def state(shared: StackState) -> StackState:
    """A writer, whichever it is, and two readers at least; what another test broke is mended."""
    stack.up(shared, lambda _: None, readers=2)
    return shared


@pytest.fixture
def table(state: StackState, request: pytest.FixtureRequest) -> str:
    """An empty table that all have."""
    name = f"cqrs.{request.node.originalname[:60]}"
    execute(state, writer(state), f"DROP TABLE IF EXISTS {name}", f"CREATE TABLE {name} (id BIGINT PRIMARY KEY)")
    wait_until_level(state)
    return name


def writer(state: StackState) -> str:
    return database_cluster.servers(state)[0].name


def readers(state: StackState) -> list[str]:
    return [server.name for server in database_cluster.servers(state)[1:]]


def process(state: StackState, name: str) -> psutil.Process:
    return psutil.Process(state.services()[name].pid)


def kill(state: StackState, name: str) -> None:
    victim = process(state, name)
    victim.send_signal(signal.SIGKILL)
    psutil.wait_procs([victim], timeout=10)


def connect(state: StackState, name: str) -> pymysql.Connection[Cursor]:
    """A connection as cqrsctl itself makes them."""
    return pymysql.connect(
        host=LOOPBACK,
        port=state.services()[name].port,
        user=database_server.USER,
        password=state.password(),
        database=database_server.DATABASE,
        autocommit=True,
        read_timeout=20,
    )


def execute(state: StackState, name: str, *statements: str) -> tuple[tuple[Any, ...], ...]:
    with connect(state, name) as connection, connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return cursor.fetchall()


def ids(state: StackState, name: str, table: str) -> set[int]:
    return {row[0] for row in execute(state, name, f"SELECT id FROM {table}")}


def as_root(state: StackState, name: str, statements: str) -> list[dict[str, str]]:
    return client.run(roster.load(state).instance(state, name), statements)


def wait_until_level(state: StackState) -> None:
    """Wait until all readers that run have what the writer has."""
    known = roster.load(state)
    target = replication.position(known.instance(state, known.writer))
    for name in stack.running(state).readers:
        status, reached = replication.settle(known.instance(state, name), target, 20)
        assert reached, (name, status)


def assert_refuses_writes(state: StackState, name: str, table: str) -> None:
    with pytest.raises(pymysql.err.OperationalError) as caught:
        execute(state, name, f"INSERT INTO {table} VALUES (-1)")
    assert caught.value.args[0] == READ_ONLY


def purge(state: StackState, name: str) -> None:
    """Remove all of a writer's binlog but the newest, empty file."""
    as_root(state, name, "FLUSH BINARY LOGS;")
    last = as_root(state, name, "SHOW BINARY LOGS;")[-1]["Log_name"]

    def purged() -> bool:
        as_root(state, name, f"PURGE BINARY LOGS TO '{last}';")
        return len(as_root(state, name, "SHOW BINARY LOGS;")) == 1

    wait_for(purged, "no reader reads the old files any more")


class Inserting(threading.Thread):
    """A client that inserts row after row at the current writer and remembers which were acknowledged."""

    def __init__(self, state: StackState, table: str) -> None:
        super().__init__()
        self.acknowledged: list[int] = []
        self.stopped = threading.Event()
        self._state = state
        self._table = table

    def run(self) -> None:
        connection = None
        number = 0
        while not self.stopped.is_set():
            number += 1
            try:
                connection = connection or connect(self._state, writer(self._state))
                connection.cursor().execute(f"INSERT INTO {self._table} VALUES ({number})")
                self.acknowledged.append(number)
            except pymysql.Error:
                connection = None

    def wait_for_more(self, count: int = 20) -> None:
        wanted = len(self.acknowledged) + count
        wait_for(lambda: len(self.acknowledged) >= wanted, "rows are inserted")


@contextmanager
def inserting(state: StackState, table: str) -> Iterator[Inserting]:
    thread = Inserting(state, table)
    thread.start()
    try:
        thread.wait_for_more()
        yield thread
        thread.wait_for_more()
    finally:
        thread.stopped.set()
        thread.join()


def test_a_reader_has_what_was_there_and_follows(state: StackState) -> None:
    execute(
        state,
        writer(state),
        "DROP TABLE IF EXISTS item, log",
        "CREATE TABLE item (id BIGINT PRIMARY KEY, seen VARBINARY(8), price DECIMAL(18,4))",
        "CREATE TABLE log (id BIGINT)",
        "CREATE TRIGGER note AFTER INSERT ON item FOR EACH ROW INSERT INTO log VALUES (NEW.id)",
        "CREATE OR REPLACE VIEW Shown AS SELECT id, price FROM item",
        r"INSERT INTO item VALUES (1, '\0ÿ', 19.9)",
        "CREATE DATABASE IF NOT EXISTS cqrs_before",
    )
    try:
        added = database_cluster.add_reader(state, "extra", lambda _: None)

        assert (added.role, added.state) == ("reader", "running")
        assert added in database_cluster.servers(state)
        assert stack.running(state).readers["extra"] == added.service.port  # type: ignore[union-attr]
        assert database_cluster.lag_seconds(state, "extra") == 0.0
        everything = "SELECT item.*, log.*, Shown.* FROM item JOIN log USING (id) JOIN Shown USING (id)"
        assert execute(state, "extra", everything) == execute(state, writer(state), everything)
        assert execute(state, "extra", "SHOW TRIGGERS")[0][0] == "note"
        execute(
            state,
            writer(state),
            "INSERT INTO item VALUES (2, NULL, 1)",
            "CREATE DATABASE IF NOT EXISTS cqrs_later",
            "CREATE TABLE cqrs_before.a (id BIGINT)",
            "CREATE TABLE cqrs_later.b (id BIGINT)",
            "CREATE VIEW cqrs_later.Twice AS SELECT Shown.id * 2 AS twice FROM cqrs.Shown",
        )
        wait_until_level(state)
        assert execute(state, "extra", "SELECT twice FROM cqrs_later.Twice ORDER BY 1") == ((2,), (4,))
        assert execute(state, "extra", "SELECT COUNT(*) FROM log") == ((2,),)
        assert execute(state, "extra", "SELECT * FROM cqrs_before.a") == ()
    finally:
        database_cluster.remove_reader(state, "extra")

    assert "extra" not in readers(state)
    assert not (state.directory / "servers" / "extra").exists()
    assert not state.log("extra").exists()
    assert "extra" not in state.services()


def test_seeding_does_not_hold_up_the_writer_and_misses_nothing(state: StackState, table: str) -> None:
    with inserting(state, table) as client:
        database_cluster.add_reader(state, "while-writing", lambda _: client.wait_for_more())
        client.wait_for_more()
    wait_until_level(state)

    assert ids(state, "while-writing", table) == ids(state, writer(state), table) >= set(client.acknowledged)
    database_cluster.remove_reader(state, "while-writing")


def test_a_reader_refuses_writes(state: StackState, table: str) -> None:
    for name in readers(state):
        assert_refuses_writes(state, name, table)


@pytest.mark.parametrize("name", ["", "1st", "a_b", "a.b", "../a", "é", "x" * 64, "-a"])
def test_an_illegal_name_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(CqrsctlError, match="is no name for a reader"):
        database_cluster.add_reader(StackState(tmp_path), name, lambda _: None)


def test_a_taken_name_is_refused_in_any_case(state: StackState) -> None:
    for name in ("mariadb", "Emulator", *readers(state), readers(state)[0].upper()):
        with pytest.raises(CqrsctlError, match="is taken"):
            database_cluster.add_reader(state, name, lambda _: None)


def test_neither_the_writer_nor_an_unknown_reader_is_removed(state: StackState) -> None:
    before = database_cluster.servers(state)
    with pytest.raises(CqrsctlError, match="is the writer"):
        database_cluster.remove_reader(state, writer(state))
    with pytest.raises(CqrsctlError, match="no reader 'nobody'"):
        database_cluster.remove_reader(state, "nobody")
    with pytest.raises(CqrsctlError, match="no reader 'nobody'"):
        database_cluster.failover(state, "nobody", lambda _: None)

    assert database_cluster.servers(state) == before


def test_lag_is_none_where_a_reader_does_not_follow(state: StackState) -> None:
    name = readers(state)[0]
    assert database_cluster.lag_seconds(state, name) == 0.0
    assert database_cluster.lag_seconds(state, writer(state)) is None
    assert database_cluster.lag_seconds(state, "nobody") is None

    as_root(state, name, "STOP REPLICA;")
    assert database_cluster.lag_seconds(state, name) is None
    as_root(state, name, "START REPLICA;")
    wait_until_level(state)
    assert database_cluster.lag_seconds(state, name) == 0.0
    kill(state, name)
    assert database_cluster.lag_seconds(state, name) is None


def test_a_failover_loses_no_acknowledged_write(state: StackState, table: str) -> None:
    with inserting(state, table) as client:
        for to in (*readers(state), writer(state)):
            old = writer(state)
            database_cluster.failover(state, to, lambda _: None)
            client.wait_for_more()

            assert stack.running(state).writer == (to, state.services()[to].port)
            assert (
                f"port={state.services()[to].port}\n" in (database_server.client_folder(state) / "my.cnf").read_text()
            )
            assert_refuses_writes(state, old, table)
    wait_until_level(state)

    for server in database_cluster.servers(state):
        assert ids(state, server.name, table) >= set(client.acknowledged)
        assert ids(state, server.name, table) == ids(state, writer(state), table)


def test_what_is_not_committed_when_a_failover_begins_is_refused(state: StackState, table: str) -> None:
    old = writer(state)
    connection = connect(state, old)
    connection.begin()
    connection.cursor().execute(f"INSERT INTO {table} VALUES (1)")
    database_cluster.failover(state, readers(state)[0], lambda _: None)
    with pytest.raises(pymysql.err.OperationalError):
        connection.commit()
    wait_until_level(state)

    assert not any(ids(state, server.name, table) for server in database_cluster.servers(state))


def test_a_failover_to_the_writer_changes_nothing(state: StackState) -> None:
    before = database_cluster.servers(state)
    database_cluster.failover(state, writer(state), lambda _: None)

    assert database_cluster.servers(state) == before


def test_where_a_reader_does_not_catch_up_the_writer_takes_writes_again(state: StackState, table: str) -> None:
    old, to = writer(state), readers(state)[0]
    with connect(state, to) as holding:
        holding.cursor().execute(f"LOCK TABLES {table} READ")
        execute(state, old, f"INSERT INTO {table} VALUES (1)")
        with pytest.raises(CqrsctlError, match=f"did not catch up within 1 s. {old} remains the writer"):
            database_cluster.failover(state, to, lambda _: None, patience_seconds=1)

    assert writer(state) == old
    execute(state, old, f"INSERT INTO {table} VALUES (2)")
    wait_until_level(state)
    assert ids(state, to, table) == {1, 2}


def test_a_statement_that_does_not_end_stops_a_failover_and_not_the_writer(state: StackState, table: str) -> None:
    old = writer(state)
    with connect(state, old) as holding:
        holding.cursor().execute(f"LOCK TABLES {table} WRITE")
        with pytest.raises(CqrsctlError, match="could not be made read-only within 1 s"):
            database_cluster.failover(state, readers(state)[0], lambda _: None, patience_seconds=1)

    execute(state, old, f"INSERT INTO {table} VALUES (1)")
    assert writer(state) == old


def test_a_failover_that_dies_before_it_is_recorded_did_not_happen(
    state: StackState, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, to = writer(state), readers(state)[0]
    with monkeypatch.context() as patch:
        patch.setattr(roster, "save", _die)
        patch.setattr(database_cluster, "obey", lambda _: None)  # as a killed process would not
        with pytest.raises(Killed):
            database_cluster.failover(state, to, lambda _: None)

    for name in (old, to):
        assert_refuses_writes(state, name, table)
    stack.up(state, lambda _: None)
    assert writer(state) == old
    execute(state, old, f"INSERT INTO {table} VALUES (1)")
    assert_refuses_writes(state, to, table)


@pytest.mark.parametrize("finish", ["up", "up after all were killed", "failover"])
def test_a_failover_that_dies_half_way_is_finished(
    state: StackState, table: str, monkeypatch: pytest.MonkeyPatch, finish: str
) -> None:
    old, to = writer(state), readers(state)[0]
    execute(state, old, f"INSERT INTO {table} VALUES (1)")
    with monkeypatch.context() as patch:
        patch.setattr(replication, "promote", lambda instance: None if instance.name == old else _die())
        with pytest.raises(Killed):
            database_cluster.failover(state, to, lambda _: None)

    assert writer(state) == to
    for name in (old, to):
        assert_refuses_writes(state, name, table)
    if finish == "failover":
        database_cluster.failover(state, to, lambda _: None)
    else:
        for name in [server.name for server in database_cluster.servers(state) if "killed" in finish]:
            kill(state, name)
        stack.up(state, lambda _: None)
    assert writer(state) == to
    execute(state, to, f"INSERT INTO {table} VALUES (2)")
    assert_refuses_writes(state, old, table)
    wait_until_level(state)
    assert ids(state, old, table) == {1, 2}


def test_a_killed_reader_is_left_out_and_started_again_by_up(state: StackState, table: str) -> None:
    name = readers(state)[0]
    before = state.services()[name]
    kill(state, name)
    execute(state, writer(state), f"INSERT INTO {table} VALUES (1)")

    assert name not in stack.running(state).readers
    assert [server.state for server in database_cluster.servers(state) if server.name == name] == ["crashed"]
    notes: list[str] = []
    stack.up(state, notes.append)
    assert f"{name} (pid {before.pid}) had ended on its own; its data is kept. It is started again." in notes
    assert not any("Seeding" in told for told in notes)
    assert stack.running(state).readers[name] == before.port
    wait_until_level(state)
    assert ids(state, name, table) == {1}
    assert_refuses_writes(state, name, table)


def test_a_killed_writer_is_started_again_by_up_and_followed(state: StackState, table: str) -> None:
    name = writer(state)
    execute(state, name, f"INSERT INTO {table} VALUES (1)")
    kill(state, name)

    with pytest.raises(CqrsctlError, match=f"is broken: {name} has ended"):
        stack.running(state)
    with pytest.raises(CqrsctlError, match=f"{name} is not running"):
        database_cluster.failover(state, readers(state)[0], lambda _: None)
    with pytest.raises(CqrsctlError, match=f"{name} is not running"):
        database_cluster.add_reader(state, "too-early", lambda _: None)
    stack.up(state, lambda _: None)
    execute(state, name, f"INSERT INTO {table} VALUES (2)")
    wait_until_level(state)
    assert all(ids(state, server.name, table) == {1, 2} for server in database_cluster.servers(state))


@pytest.mark.parametrize("trouble", ["purged", "diverged", "broken", "damaged"])
def test_a_reader_that_can_no_longer_follow_is_seeded_anew_by_up(state: StackState, table: str, trouble: str) -> None:
    name = readers(state)[0]
    if trouble == "diverged":
        as_root(state, name, f"SET GLOBAL read_only = 0; INSERT INTO {table} VALUES (7);")
    elif trouble == "broken":
        as_root(state, name, f"SET sql_log_bin = 0; DROP TABLE {table};")
    if trouble != "broken":
        kill(state, name)
    execute(state, writer(state), f"INSERT INTO {table} VALUES (1)")
    if trouble == "purged":
        purge(state, writer(state))
    elif trouble == "damaged":
        (roster.load(state).instance(state, name).data / "ibdata1").unlink()

    notes: list[str] = []
    stack.up(state, notes.append)

    assert f"Seeding {name} from {writer(state)} …" in notes
    assert sum("Seeding" in told for told in notes) == 1
    assert ids(state, name, table) == {1}
    assert database_cluster.lag_seconds(state, name) == 0.0


def test_down_and_up_keep_the_roles_and_the_data(state: StackState, table: str) -> None:
    to = readers(state)[0]
    database_cluster.failover(state, to, lambda _: None)
    execute(state, to, f"INSERT INTO {table} VALUES (1)")
    before = [(server.name, server.role) for server in database_cluster.servers(state)]
    ended = stack.down(state, wipe=False)

    assert {service.name for service in ended} == {"emulator", *(name for name, _ in before)}
    assert {server.state for server in database_cluster.servers(state)} == {"stopped"}
    stack.up(state, lambda _: None)
    assert [(server.name, server.role) for server in database_cluster.servers(state)] == before
    for name in readers(state):
        wait_until_level(state)
        assert ids(state, name, table) == {1}
        assert_refuses_writes(state, name, table)
    execute(state, to, f"INSERT INTO {table} VALUES (2)")


def test_a_reader_whose_making_was_killed_is_none_and_made_again(state: StackState, table: str) -> None:
    program = (
        "import pathlib, sys, time\n"
        "from cqrsctl.local import database_cluster, replication, state\n"
        "replication.copy = lambda *_: (print('copying', flush=True), time.sleep(60))\n"
        "database_cluster.add_reader(state.StackState(pathlib.Path(sys.argv[1])), 'half', lambda _: None)\n"
    )
    command = [sys.executable, "-c", program, str(state.directory)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as making:
        assert making.stdout is not None
        assert making.stdout.readline() == b"copying\n"
        making.kill()
    left = process(state, "half")

    assert left.is_running()
    assert "half" not in readers(state)
    assert "half" not in stack.running(state).readers
    execute(state, writer(state), f"INSERT INTO {table} VALUES (1)")
    database_cluster.add_reader(state, "half", lambda _: None)
    assert not left.is_running()
    assert ids(state, "half", table) == {1}
    database_cluster.remove_reader(state, "half")


def test_a_copy_that_fails_is_tried_again_and_in_the_end_leaves_nothing(
    state: StackState, monkeypatch: pytest.MonkeyPatch
) -> None:
    tries: list[str] = []

    def start(target: database_server.ServerInstance, _: int | None, *, read_only: bool) -> None:
        target.data.mkdir(parents=True)
        tries.append(target.name)

    def fail(*_: database_server.ServerInstance) -> None:
        raise replication.CopyFailed("The table was changed.")

    monkeypatch.setattr(database_server, "start", start)
    monkeypatch.setattr(replication, "copy", fail)
    with pytest.raises(CqrsctlError, match="The table was changed"):
        database_cluster.add_reader(state, "unlucky", lambda _: None)

    assert tries == ["unlucky"] * 3
    assert "unlucky" not in state.services()
    assert not (state.directory / "servers" / "unlucky").exists()
    with pytest.raises(CqrsctlError, match="no reader 'unlucky'"):
        database_cluster.remove_reader(state, "unlucky")


def test_a_dump_that_fails_is_told_in_its_own_words(state: StackState, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Engine, "dumped", lambda *_: ["--no-such-option"])
    known = roster.load(state)
    source, target = known.instance(state, known.writer), known.instance(state, known.readers[0])

    with pytest.raises(replication.CopyFailed, match="unknown option '--no-such-option'"):
        replication.copy(source, target)


def test_up_takes_the_lowest_free_name_and_ends_no_reader(state: StackState) -> None:
    database_cluster.remove_reader(state, next(name for name in readers(state) if name not in engines.NAMES))
    before = {server.name for server in database_cluster.servers(state)}
    lowest = next(name for n in range(1, 9) if (name := f"local-reader-{n}") not in before)
    stack.up(state, lambda _: None, readers=len(before))
    stack.up(state, lambda _: None)

    assert {server.name for server in database_cluster.servers(state)} == {*before, lowest}


def test_secrets_are_in_private_files_and_not_in_the_process_table(state: StackState) -> None:
    secrets = (state.password(), state.replication_password())
    assert len(set(secrets)) == 2
    assert stat.S_IMODE((state.directory / "replication.password").stat().st_mode) == 0o600
    for server in database_cluster.servers(state):
        found = process(state, server.name)
        assert not any(secret in " ".join(found.cmdline()) for secret in secrets)
        listening = {c.laddr.ip for c in found.net_connections() if c.status == "LISTEN"}
        assert listening == {LOOPBACK}
        folder = roster.load(state).instance(state, server.name).data
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert state.password() not in repr(stack.running(state))


def test_removing_all_leaves_an_empty_writer_and_wiping_nothing(tmp_path: Path) -> None:
    state = StackState(tmp_path / "9_odd")
    try:
        stack.up(state, lambda _: None, readers=1)
        assert readers(state) == ["stack-9-odd-reader-1"]
        database_cluster.failover(state, "stack-9-odd-reader-1", lambda _: None)
        database_cluster.remove_reader(state, "mariadb")
        execute(state, writer(state), "CREATE TABLE gone (id BIGINT)")
        database_cluster.remove_all(state)

        assert [(server.name, server.state) for server in database_cluster.servers(state)] == [("mariadb", "stopped")]
        stack.up(state, lambda _: None)
        assert (writer(state), readers(state)) == ("mariadb", [])
        assert execute(state, "mariadb", "SHOW TABLES") == ()
    finally:
        stack.down(state, wipe=True)

    assert [path.name for path in state.directory.iterdir()] == ["lock"]


def test_without_the_dump_program_only_readers_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("dnf", "mariadb", "mariadbd"):
        (tools / name).write_text("#!/bin/sh\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setattr(database_server, "_SERVER_FOLDERS", ())

    with pytest.raises(CqrsctlError, match="mariadb-dump was not found") as caught:
        stack.up(StackState(tmp_path / "state"), lambda _: None, readers=1)

    assert caught.value.hint == "Install it with: sudo dnf install mariadb"
    assert not (tmp_path / "state").exists()


def test_a_damaged_roster_is_named(tmp_path: Path) -> None:
    for content in ("{", '{"who": 1}'):
        (tmp_path / "cluster.json").write_text(content)
        with pytest.raises(CqrsctlError, match=r"cluster\.json is damaged"):
            database_cluster.servers(StackState(tmp_path))


class Killed(BaseException):
    """Stands for the end of the process."""


def _die(*_: object) -> None:
    raise Killed
