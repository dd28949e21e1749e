"""The embedded stack: one of it, found again, repaired, ended exactly."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
from typing import TYPE_CHECKING

import psutil
import pytest

from cqrsctl.errors import CqrsctlError
from cqrsctl.local import database_server, emulator, ports, stack
from cqrsctl.local.state import Service, StackState
from tests.conftest import COMMAND, Cqrsctl

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Cqrsctl]:
    """The command with no stack yet; what it starts is ended afterwards."""
    yield Cqrsctl(tmp_path, {"CQRSCTL_STATE_DIR": str(tmp_path / "state")})
    stack.down(StackState(tmp_path / "state" / "local"), wipe=True)


def pids(own: Cqrsctl) -> list[int]:
    return [part["pid"] for part in own.ok("local", "status", "-o", "json").json()]


def runs(pid: int) -> bool:
    """Whether a process runs; one that has ended may be listed until the system's first process takes note of it."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_two_ups_at_once_make_one_stack(own: Cqrsctl) -> None:
    both = [own.start("local", "up", "-o", "json") for _ in range(2)]
    outputs = [process.communicate(timeout=60) for process in both]

    assert [process.returncode for process in both] == [0, 0], outputs
    assert outputs[0][0] == outputs[1][0]
    running = [p for p in psutil.process_iter(["cmdline"]) if str(own.directory) in " ".join(p.info["cmdline"] or ())]
    assert {process.pid for process in running} == set(pids(own))


def test_the_stack_survives_the_command_and_is_found_by_the_next(own: Cqrsctl) -> None:
    own.ok("local", "up")
    before = pids(own)
    own.ok("local", "up")

    assert pids(own) == before
    own.ok("table", "create")
    exported = own.ok("local", "env").out
    assert "export AWS_ENDPOINT_URL=http://127.0.0.1:" in exported
    assert StackState(own.directory / "state" / "local").password() not in exported


@pytest.mark.parametrize("index", [0, 1])
def test_a_crashed_half_is_named_and_repaired(own: Cqrsctl, index: int) -> None:
    own.ok("local", "up")
    before = pids(own)
    os.kill(before[index], signal.SIGKILL)
    psutil.wait_procs([psutil.Process(before[index])], timeout=10)

    broken = own("query", "count")
    states = [part["state"] for part in own.ok("local", "status", "-o", "json").json()]
    repaired = own.ok("local", "up")

    assert broken.code == 1
    assert "local up" in broken.err
    assert states[index] == "crashed"
    assert f"(pid {before[index]}) had ended on its own" in repaired.err
    assert pids(own)[1 - index] == before[1 - index]
    assert pids(own)[index] != before[index]


def test_down_ends_its_processes_and_no_other_and_keeps_the_data(own: Cqrsctl) -> None:
    own.ok("local", "up")
    own.ok("read-model", "init")
    state = StackState(own.directory / "state" / "local")
    ended = pids(own)
    own.ok("local", "down")

    assert not any(map(runs, ended))
    bystander = subprocess.Popen(["sleep", "60"])
    state.directory.joinpath("stack.json").write_text(
        f'{{"mariadb": {{"name": "mariadb", "pid": {bystander.pid}, "started": 1.0, "port": 1}}}}'
    )
    own.ok("local", "down")
    assert bystander.poll() is None
    bystander.terminate()
    bystander.wait()
    own.ok("local", "up")
    assert own.ok("query", "count", "-o", "json").json() == {"count": 0}
    own.ok("local", "down", "--wipe", "--yes")
    assert [path.name for path in state.directory.iterdir()] == ["lock"]
    assert "Nothing was running" in own.ok("local", "down").err


def test_wiping_removes_nothing_that_the_stack_did_not_make(own: Cqrsctl) -> None:
    directory = own.directory / "state" / "demo"
    directory.mkdir(parents=True)
    (directory / "precious.txt").write_text("mine")

    own.ok("demo", "--products", "10")
    own.ok("-e", "demo", "local", "down", "--wipe", "--yes")

    assert sorted(path.name for path in directory.iterdir()) == ["lock", "precious.txt"]


def test_secrets_are_private_files_and_the_server_is_on_loopback_only(own: Cqrsctl) -> None:
    own.ok("local", "up")
    directory = own.directory / "state" / "local"

    for name in ("database.password", "client/my.cnf", "stack.json"):
        assert stat.S_IMODE((directory / name).stat().st_mode) == 0o600
    assert not (directory / "accounts.sql").exists()
    server = psutil.Process(pids(own)[1])
    assert StackState(directory).password() not in " ".join(server.cmdline())
    assert {connection.laddr.ip for connection in server.net_connections() if connection.status == "LISTEN"} == {
        "127.0.0.1"
    }


def test_a_profile_that_does_not_exist_does_not_matter_to_the_stack(own: Cqrsctl) -> None:
    own.variables["AWS_PROFILE"] = "nobody"
    own.ok("local", "up")

    own.ok("table", "create")


def test_logs_are_printed_and_asked_for_too_early_say_so(own: Cqrsctl) -> None:
    assert own("local", "logs").code == 1
    own.ok("local", "up")

    assert "ready for connections" in own.ok("local", "logs", "mariadb", "-n", "100").out


def test_a_followed_log_is_printed_as_it_grows_until_the_command_is_ended(own: Cqrsctl) -> None:
    own.ok("local", "up")
    log = StackState(own.directory / "state" / "local").log("emulator")
    log.write_text("before\n")
    following = own.start("local", "logs", "emulator", "--follow")
    assert following.stdout is not None
    assert following.stdout.readline() == "before\n"
    with log.open("a") as file:
        file.write("then\n")
    assert following.stdout.readline() == "then\n"

    following.terminate()

    assert following.communicate(timeout=20)[0] == ""
    assert following.returncode == 0


def test_the_shell_is_the_databases_client_with_its_own_arguments(own: Cqrsctl) -> None:
    assert own("local", "shell").code == 1
    own.ok("local", "up")

    assert own.ok("local", "shell", stdin="SELECT DATABASE(), CURRENT_USER();").out.split("\n")[1].startswith("cqrs\t")
    assert own.ok("local", "shell", "--", "--skip-column-names", "-e", "SELECT 7").out == "7\n"
    assert own("local", "shell", "--", "-e", "SELECT").code == 1


def test_the_environment_brings_other_clients_to_the_stack_as_its_help_says(own: Cqrsctl) -> None:
    own.ok("local", "up")
    own.ok("table", "create")
    own.ok("product", "put", "7", "--name", "Lamp", "--price", "1.50")
    own.ok("project", "--once")

    example = """eval "$(cqrsctl local env)"; mariadb -e 'SELECT * FROM Product LIMIT 3'"""
    path = f"{COMMAND.parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-c", example],
        env=own.environment({"PATH": path}),
        cwd=own.directory,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[1].startswith("7\tLamp\t1.5")


def test_wiping_asks_with_what_is_lost_in_numbers(own: Cqrsctl) -> None:
    own.ok("local", "up")
    own.ok("table", "create")
    own.ok(
        "product", "import", "-", stdin="ProductId,Name,Price,OutOfStock\n1,Lamp,1.50,\n2,Desk,2.50,\n3,Chair,3.50,\n"
    )
    own.ok("product", "delete", "2")
    directory = own.directory / "state" / "local"

    refused = own("local", "down", "--wipe")

    assert refused.code == 2
    assert "1 table with 2 items" in refused.err
    own.ok("local", "down")
    assert "1 table with 2 items" in own("local", "down", "--wipe").err
    with (directory / emulator.JOURNAL).open("a") as file:
        file.write("nonsense\n")
    assert "tables that cannot be read" in own("local", "down", "--wipe").err
    own.ok("local", "down", "--wipe", "--yes")
    assert [path.name for path in directory.iterdir()] == ["lock"]


def test_a_machine_without_localhost_has_a_stack(own: Cqrsctl, tmp_path: Path) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_text("192.0.2.1 somewhere-else\n")
    without = f"mount --bind {hosts} /etc/hosts && "
    isolated = ["unshare", "--mount", "sh", "-c"]
    looking = f"{without} getent hosts localhost $(uname -n)"
    lookup = subprocess.run([*isolated, looking], capture_output=True, check=False)
    if lookup.returncode != 2:
        pytest.skip("this user may not mount, or names are known from elsewhere")

    done = subprocess.run(
        [*isolated, f"{without} {COMMAND} local up"],
        env=own.environment({"PATH": os.defpath}),  # where the real installer is, not the one that copies
        cwd=own.directory,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert done.returncode == 0, done.stderr


def test_a_database_that_cannot_be_installed_shows_the_cause_and_keeps_its_log(own: Cqrsctl, tmp_path: Path) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "mariadb-install-db").write_text(
        "#!/bin/sh\necho 'No space for tables.'\necho 'See the manual.'\nexit 1\n"
    )
    (tools / "mariadb-install-db").chmod(0o755)
    own.variables["PATH"] = f"{tools}:{os.environ['PATH']}"

    for command, environment in ((("local", "up"), "local"), (("demo", "--products", "10"), "demo")):
        failed = own(*command)

        log = own.directory / "state" / environment / "mariadb.install.log"
        assert failed.code == 1
        assert "mariadb-install-db failed: No space for tables." in " ".join(failed.err.split())
        assert str(log) in failed.err.replace("\n", "")
        assert log.read_text().endswith("See the manual.\n")
    assert "Nothing was running" in own.ok("-e", "demo", "local", "down").err


def test_of_a_servers_errors_the_first_is_the_cause(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("[ERROR] of an earlier start\n")
    begin = ports.length(log)
    assert ports.cause(log, begin) == "it wrote nothing"
    with log.open("a") as file:
        file.write("[Note] begin\n[ERROR] No space\n[ERROR] Aborting\n")

    assert ports.cause(log, begin) == "[ERROR] No space"


def test_readers_are_shown_and_their_logs_printed(own: Cqrsctl) -> None:
    first = own.ok("local", "up", "--readers", "1", "-o", "json").json()
    again = own.ok("local", "status", "-o", "json").json()
    shown = own.ok("local", "status").out.splitlines()

    assert first == again
    assert [(part["name"], part["role"], part["lag_seconds"]) for part in first] == [
        ("emulator", "", None),
        ("mariadb", "writer", None),
        ("local-reader-1", "reader", 0.0),
    ]
    assert shown[0].split() == ["NAME", "ROLE", "STATE", "ADDRESS", "PID", "STARTED", "LAG"]
    assert shown[3].startswith("local-reader-1  reader  running  127.0.0.1:")
    assert [line.rstrip().endswith("ago  0 s") for line in shown] == [False, False, False, True]
    assert "ready for connections" in own.ok("local", "logs", "local-reader-1").out
    unknown = own("local", "logs", "local-reader-2")
    assert (unknown.code, unknown.out) == (2, "")
    assert "emulator, mariadb, local-reader-1" in unknown.err
    assert own("local", "up", "--readers", "16").code == 2
    told = own.ok("local", "down").err
    assert [part["name"] for part in first if f"{part['name']} (pid {part['pid']})" not in told] == []
    assert (told.count(", "), told.count(" and ")) == (1, 1)
    assert own.ok("local", "status", "-o", "json").json()[2]["state"] == "stopped"


def test_an_environment_that_is_not_embedded_has_no_stack(own: Cqrsctl) -> None:
    (own.directory / "cqrsctl.toml").write_text("[environments.prod]\n")

    assert own("-e", "prod", "local", "up").code == 2


def test_without_mariadb_the_error_gives_the_install_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "dnf").write_text("#!/bin/sh\n")
    (tools / "dnf").chmod(0o755)
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setattr(database_server, "_SERVER_FOLDERS", ())

    with pytest.raises(CqrsctlError) as caught:
        stack.up(StackState(tmp_path / "state"), lambda _: None)

    assert caught.value.hint == "Install it with: sudo dnf install mariadb-server"
    assert not (tmp_path / "state").exists()


def test_without_moto_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "flask" else object())

    with pytest.raises(CqrsctlError, match="flask") as caught:
        emulator.check_installed()

    assert caught.value.hint == "Install it with: pip install 'cqrsctl[local]'"


def test_a_taken_port_is_avoided(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind((ports.LOOPBACK, 0))
        taken.listen()
        port = taken.getsockname()[1]

        assert ports.free_port(port) != port
        with ports.listener(port) as elsewhere:
            assert elsewhere.getsockname()[1] != port


def test_a_server_that_cannot_start_is_told_with_its_own_words(tmp_path: Path) -> None:
    state = StackState(tmp_path)
    (tmp_path / "data").mkdir()

    with pytest.raises(CqrsctlError, match="mariadb ended while it started") as caught:
        stack.up(state, lambda _: None)

    assert "mariadb.log" in (caught.value.hint or "")
    assert state.services() == {}


def test_a_damaged_state_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "stack.json").write_text("{")

    with pytest.raises(CqrsctlError, match=r"stack\.json is damaged"):
        StackState(tmp_path).services()


def test_a_process_that_ignores_the_request_to_end_is_ended_by_force() -> None:
    stubborn = subprocess.Popen(
        ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 1; done"], stdout=subprocess.PIPE
    )
    assert stubborn.stdout is not None
    stubborn.stdout.readline()
    service = Service("stubborn", stubborn.pid, psutil.Process(stubborn.pid).create_time(), 0)

    service.stop(patience_seconds=0.2)

    assert service.process() is None
    stubborn.stdout.close()
    stubborn.wait()
