"""What differs between MariaDB and MySQL for the embedded stack: programs, settings, accounts, replication."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from cqrsctl.errors import CqrsctlError, UsageError
from cqrsctl.local.state import write_private

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from cqrsctl.local.state import StackState


@dataclass(frozen=True, slots=True)
class Engine:
    """A database server's programs and their words. Texts of SQL have their values in braces.

    `name` is also that of a stack's first server, `words` are what SHOW … STATUS calls the two ends of replication.
    """

    name: str
    title: str
    least_version: str
    server: str
    client: str
    dump: str
    installer: str
    install_options: tuple[str, ...]
    server_packages: Mapping[str, str]
    client_packages: Mapping[str, str]
    settings: tuple[str, ...]
    accounts: str
    no_tls: str
    words: tuple[str, str]
    status: str
    follow: str
    promote: str
    position: str
    reached: str
    contains: str
    """Asks a writer whether it has all that a reader has; empty if a reader that has more stops by itself."""
    dump_options: tuple[str, ...]
    dumps_by_name: bool
    after_load: str

    @property
    def socket(self) -> str:
        """The socket's name in the data folder: a long path would not fit a socket's address."""
        return f"{self.name}.sock"

    @property
    def pid_file(self) -> str:
        return f"{self.name}.pid"

    def install(self, account: str, data: Path) -> list[str]:
        """The arguments with which its installer makes a data folder.

        Root is known by the socket, and needs no password: the folder is the user's own, and a server that looks up no
        names takes nobody from the network for root.
        """
        return [option.format(account=account, data=data) for option in self.install_options]

    def dumped(self, databases: Sequence[str]) -> list[str]:
        """The options with which these databases are copied to a server that will follow."""
        return [*self.dump_options, *(databases if self.dumps_by_name else ())]


_LOG_FILE_SIZE = "--innodb-log-file-size=64M"  # from the start: the first start would have to resize the file
_REDO_LOG = "--innodb-redo-log-capacity=64M"

MARIADB = Engine(
    name="mariadb",
    title="MariaDB",
    least_version="10.6",
    server="mariadbd",
    client="mariadb",
    dump="mariadb-dump",
    installer="mariadb-install-db",
    install_options=(
        "--no-defaults",
        "--user={account}",
        "--datadir={data}",
        _LOG_FILE_SIZE,
        "--auth-root-authentication-method=socket",
        "--auth-root-socket-user={account}",
        "--skip-test-db",
        "--skip-name-resolve",
        "--force",  # or it fails if neither this machine's name nor localhost can be looked up
    ),
    server_packages={
        "apt-get": "sudo apt-get install mariadb-server-core mariadb-client-core",
        "dnf": "sudo dnf install mariadb-server",
        "brew": "brew install mariadb",
    },
    client_packages={
        "apt-get": "sudo apt-get install mariadb-client",
        "dnf": "sudo dnf install mariadb",
        "brew": "brew install mariadb",
    },
    settings=(
        _LOG_FILE_SIZE,
        "--performance-schema=OFF",
        "--collation-server=utf8mb4_unicode_520_ci",
        "--log-slave-updates",
        "--binlog-format=ROW",
        "--gtid-strict-mode",
        "--loose-slave-connections-needed-for-purge=0",  # from 11.4: a writer without readers would keep all
        "--skip-slave-start",  # it is set to follow when it runs
    ),
    accounts="""\
SET sql_log_bin = 0;
CREATE OR REPLACE USER {user}@'127.0.0.1' IDENTIFIED BY '{password}';
CREATE OR REPLACE USER {user}@'localhost' IDENTIFIED BY '{password}';
CREATE OR REPLACE USER {replica}@'127.0.0.1' IDENTIFIED BY '{replica_password}';
""",
    no_tls="--skip-ssl",
    words=("Slave", "Master"),
    status="SHOW SLAVE STATUS;",
    # Positions go through a variable: a server that sets one from another in one statement waits for itself.
    # A server that was the writer resumes after its own last write, one that never was after the last that it
    # replicated: gtid_current_pos is just that.
    follow="""\
STOP SLAVE;
SET @position = @@GLOBAL.gtid_current_pos;
SET GLOBAL gtid_slave_pos = @position;
CHANGE MASTER TO MASTER_HOST = '{host}', MASTER_PORT = {port}, MASTER_USER = '{user}', MASTER_PASSWORD = '{password}',
    MASTER_CONNECT_RETRY = 1, MASTER_SSL = 0, MASTER_SSL_VERIFY_SERVER_CERT = 0, MASTER_USE_GTID = slave_pos;
START SLAVE;
""",
    promote="STOP SLAVE; RESET SLAVE ALL; SET GLOBAL read_only = 0;",
    position="SELECT @@GLOBAL.gtid_binlog_pos AS position;",
    reached="SELECT MASTER_GTID_WAIT('{position}', {seconds:.3f}) AS result;",
    contains="",
    dump_options=(
        "--single-transaction",
        "--master-data=1",
        "--gtid",
        "--routines",
        "--events",
        "--hex-blob",
        "--all-databases",
        "--ignore-database=mysql",
        "--ignore-database=sys",
    ),
    dumps_by_name=False,
    # The binlog of a seeded server is empty. It has to know where it begins, or nobody could follow it from there.
    after_load="RESET MASTER; SET @position = @@GLOBAL.gtid_slave_pos; SET GLOBAL gtid_binlog_state = @position;",
)

MYSQL = Engine(
    name="mysql",
    title="MySQL",
    least_version="8.0.30",
    server="mysqld",
    client="mysql",
    dump="mysqldump",
    installer="mysqld",
    install_options=("--no-defaults", "--initialize-insecure", "--user={account}", "--datadir={data}", _REDO_LOG),
    server_packages={
        "apt-get": "sudo apt-get install mysql-server",
        "dnf": "sudo dnf install mysql-server",
        "brew": "brew install mysql",
    },
    client_packages={
        "apt-get": "sudo apt-get install mysql-client",
        "dnf": "sudo dnf install mysql",
        "brew": "brew install mysql",
    },
    settings=(
        _REDO_LOG,
        "--gtid-mode=ON",
        "--enforce-gtid-consistency=ON",
        "--mysqlx=OFF",
        "--local-infile=ON",  # as MariaDB has it: a rebuild loads files
        "--secure-file-priv=NULL",
        "--skip-replica-start",
    ),
    # The rights of a user that is there stay as they are; only its password is set again.
    accounts="""\
SET sql_log_bin = 0;
CREATE USER IF NOT EXISTS {user}@'127.0.0.1';
CREATE USER IF NOT EXISTS {user}@'localhost';
CREATE USER IF NOT EXISTS {replica}@'127.0.0.1';
ALTER USER {user}@'127.0.0.1' IDENTIFIED BY '{password}';
ALTER USER {user}@'localhost' IDENTIFIED BY '{password}';
ALTER USER {replica}@'127.0.0.1' IDENTIFIED BY '{replica_password}';
""",
    no_tls="--ssl-mode=DISABLED",
    words=("Replica", "Source"),
    status="SHOW REPLICA STATUS;",
    follow="""\
STOP REPLICA;
CHANGE REPLICATION SOURCE TO SOURCE_HOST = '{host}', SOURCE_PORT = {port}, SOURCE_USER = '{user}',
    SOURCE_PASSWORD = '{password}', SOURCE_CONNECT_RETRY = 1, SOURCE_SSL = 0, GET_SOURCE_PUBLIC_KEY = 1,
    SOURCE_AUTO_POSITION = 1;
START REPLICA;
""",
    promote="STOP REPLICA; RESET REPLICA ALL; SET GLOBAL read_only = 0;",
    position=r"SELECT REPLACE(@@GLOBAL.gtid_executed, '\n', '') AS position;",
    reached="SELECT WAIT_FOR_EXECUTED_GTID_SET('{position}', {seconds:.3f}) AS result;",
    contains="SELECT GTID_SUBSET('{position}', @@GLOBAL.gtid_executed) AS result;",
    dump_options=(
        "--single-transaction",
        "--set-gtid-purged=ON",
        "--routines",
        "--events",
        "--hex-blob",
        "--databases",
    ),
    dumps_by_name=True,
    after_load="",
)

_ALL = {engine.name: engine for engine in (MARIADB, MYSQL)}
NAMES = frozenset(_ALL)
"""The names of first servers: their files lie in the stack's own folder."""


def of(state: StackState) -> Engine:
    """The engine of a stack: the one that was chosen at its first start, MariaDB before that."""
    try:
        return _ALL[_file(state).read_text()]
    except FileNotFoundError:
        return MARIADB
    except KeyError as error:
        raise CqrsctlError(
            f"{_file(state)} names no engine: {error}.", hint="Remove the stack with: cqrsctl local down --wipe"
        ) from error


def chosen(state: StackState, name: str | None) -> Engine:
    """The engine of a name, for a stack that has no data yet; without a name the one that the stack has.

    Raises UsageError if the stack has the other one.
    """
    now = of(state)
    if name is None or name == now.name:
        return now
    if any((state.directory / folder).exists() for folder in ("data", "servers")):
        raise UsageError(
            f"The stack's database is {now.title}.", hint="Remove it first, with its data: cqrsctl local down --wipe"
        )
    return _ALL[name]


def keep(state: StackState, engine: Engine) -> None:
    """Remember a stack's engine."""
    if engine is not of(state):
        write_private(_file(state), engine.name)


def _file(state: StackState) -> Path:
    return state.directory / "database.engine"
