"""One simulated history: a table, its stream, projectors, the function, and a person who operates them.

What the person does are cqrsctl's own operations over clients of a simulated AWS, each in a process that can be killed
at any commit. Chance decides what comes next, by the seed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from cqrsctl.aws import ApiCall
from cqrsctl.config import DatabaseSettings, Environment
from cqrsctl.diagnosis.facts import Facts
from cqrsctl.errors import Busy, ConfigurationError, CqrsctlError, Drift, StreamGap
from cqrsctl.functions.deploy import Options
from cqrsctl.functions.mapping import MappingSpec
from cqrsctl.functions.mapping import of_function as mappings_of_function
from cqrsctl.functions.parts import PROJECTOR, Part
from cqrsctl.functions.projector_function import ProjectorFunction
from cqrsctl.pipeline import project, purging, settling
from cqrsctl.pipeline.function_operations import Functions, Which
from cqrsctl.pipeline.rebuild import rebuilding
from cqrsctl.pipeline.rebuild.progress import Unfit
from cqrsctl.pipeline.rebuild.rebuilding import Rebuilding
from cqrsctl.pipeline.verify.comparison import DriftKind
from cqrsctl.pipeline.verify.verifying import Verification
from cqrsctl.projection.declaration import conditions
from cqrsctl.projection.definition import ColumnType, Projection, default_product
from cqrsctl.projection.recovery import OnError
from cqrsctl.read_model import function_position, rebuilds, registry, schema
from cqrsctl.read_model.connection import connect
from cqrsctl.read_model.endpoints import Servers, Topology
from cqrsctl.stream.reader import Beginning
from cqrsctl.wiring import Wiring
from cqrsctl.write_model import table
from tests.simulation.aws import INCONSISTENT_SECONDS, TABLE, SimulatedDynamoDb, SimulatedLambda
from tests.simulation.processes import Killed, Process, ProcessClock, Processes
from tests.simulation.readers import NARROW, WIDE, Eye, width_of

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Collection, Sequence

    from cqrsctl.read_model.connection import Endpoint
    from tests.simulation.clock import VirtualClock
    from tests.simulation.stream import SimulatedStream
    from tests.simulation.world import Writers

_MOST_TRIES = 60
_TRIES_WITH_MISHAPS = 5
_COMMAND_SECONDS = 3 * 3_600
"""Of a shard that was merged no child is ever listed: each rebuild waits minutes for one, and again after a hiccup."""
MOST_SKEW_SECONDS = 299


def product(width: int) -> Projection:
    """The projection of all products whose name has at most this number of characters."""
    declared = default_product()
    columns = [
        replace(column, type=ColumnType.parse(f"varchar({width})")) if column.name == "Name" else column
        for column in declared.columns
    ]
    return replace(declared, columns=tuple(columns))


PRODUCT = product(NARROW)
PROJECTIONS = {
    each.name: each
    for each in (
        PRODUCT,
        replace(PRODUCT, name="gone", view="Gone", where=conditions({"OutOfStock": True})),
        replace(PRODUCT, name="there", view="There", where=conditions({"OutOfStock": False})),
    )
}


@dataclass(slots=True)
class Mishaps:
    """How often a commit goes wrong: before it or after it, by a lost connection, or by the end of the process."""

    before_commit: float
    after_commit: float
    killed: float
    between_statements: float
    """How often another process gets its turn between two statements of a transaction."""
    happen: bool = True


@dataclass(slots=True)
class Follower:
    """A projector that somebody keeps running."""

    names: list[str]
    process: Process | None = None
    due: float = 0.0


@dataclass(slots=True)
class History:
    """The world of one seed."""

    rng: random.Random
    plan: random.Random
    clock: VirtualClock
    processes: Processes
    stream: SimulatedStream
    dynamodb: SimulatedDynamoDb
    functions: SimulatedLambda
    endpoint: Endpoint
    eye: Eye
    writers: Writers
    mishaps: Mishaps
    declared: dict[str, Projection] = field(default_factory=lambda: dict(PROJECTIONS))
    followers: list[Follower] = field(default_factory=list)
    gaps: set[str] = field(default_factory=set)
    """Projections with a gap that somebody was told of."""
    wrong: list[str] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    """What was done and what came of it, to be read where a history goes wrong."""
    damaged: set[str] = field(default_factory=set)
    """Tables that were changed by hand: no undo leads back to one."""
    _first_arn: str = ""
    _letters: dict[int, bool] = field(default_factory=dict)

    def live(self) -> list[str]:
        """Live through it; what is wrong in the end."""
        self._begin()
        steps = {
            self._let_time_pass: 6,
            self._stand_still: 2,
            self._change_followers: 4,
            self.deploy: 2,
            self.switch_function: 2,
            self.rebuild: 3,
            self._undo: 2,
            self._discard: 1,
            self._widen_or_narrow: 1,
            self._retry_letters: 2,
            self._discard_letters: 1,
            self._repair: 2,
            self._purge: 1,
            self._replace_stream: 1,
            self._remake_table: 0.5,
            self._deny: 1,
        }
        for _ in range(self.plan.randint(2, 8)):
            (step,) = self.plan.choices(list(steps), list(steps.values()))
            self._log(step.__name__)
            step()
            self.let_pass(self.plan.uniform(1, 8))
            self._count_letters()
            if self.wrong or self.eye.wrong:
                break
        else:
            self._end()
        return self.wrong + self.eye.wrong

    # What a person does.

    def _begin(self) -> None:
        self._first_arn = self.stream.arn
        self.processes.start("lambda", lambda: self.functions.work(self.processes.wait))
        self._resume_writing()
        if self.plan.random() < 0.7:
            self.follow(list(PROJECTIONS))
        else:
            self.deploy()
        self.let_pass(self.plan.uniform(2, 8))

    def _let_time_pass(self) -> None:
        self.let_pass(self.plan.uniform(5, 25))

    def _stand_still(self) -> None:
        """Nobody projects by hand for hours."""
        self.stop_followers()
        hours = self.plan.choice([1, 12, 22, 25, 30])
        self._log(f"{hours} h")
        self.writers.begin(mean_pause_seconds=hours * 3600 / 40)
        self.let_pass(hours * 3600, step_seconds=600)
        self._resume_writing()

    def _change_followers(self) -> None:
        self.stop_followers()
        names = self.plan.sample(list(PROJECTIONS), self.plan.randint(1, len(PROJECTIONS)))
        self.follow(names)
        if self.plan.random() < 0.3:
            self.follow([name for name in PROJECTIONS if name not in names])
        self.let_pass(self.plan.uniform(3, 10))

    def deploy(self) -> None:
        if not self.stream.is_on:
            return

        invoke = self._zipped(tuple(self.declared.values()))

        def deploy() -> None:
            notice = partial(self._take_notice, list(PROJECTIONS))
            function = _Deployment(self._wiring(), ProcessClock(self.processes), notice)
            function.invoke = invoke
            function.deploy(Which.PROJECTOR, Options(), b"", wait=True)
            self._log(f"gap: {function.gap}")

        self._run("function deploy", deploy)
        self._look_for_gaps_of_function()

    def switch_function(self) -> None:
        if self.functions.mapping is None or self.functions.invoke is None:
            return
        enabled = self.functions.mapping.state != "Enabled"

        def switch() -> None:
            function = Functions(self._wiring(), ProcessClock(self.processes), self._log)
            function.switch(enabled=enabled, wait=True)
            self._log(f"enabled: {enabled}, gap: {function.gap}")

        self._run("function switch", switch)
        self._look_for_gaps_of_function()

    def rebuild(self, names: Sequence[str] | None = None, *, to_its_end: bool = False) -> None:
        if names is None:
            names = self.plan.sample(list(PROJECTIONS), self.plan.randint(1, len(PROJECTIONS)))
        unfit = Unfit.SKIP if to_its_end else self.plan.choice([Unfit.SKIP, Unfit.SKIP, Unfit.STOP])
        killed_after = None if to_its_end else self.plan.choice([None, None, self.plan.uniform(1, 10)])
        for number in range(_MOST_TRIES if to_its_end else self.plan.randint(1, 4)):
            self.mishaps.happen = number < _TRIES_WITH_MISHAPS
            failure = self._run(f"rebuild {', '.join(names)}", lambda: self._rebuilt(names, unfit), killed_after)
            killed_after = None
            self.mishaps.happen = True
            if failure is None:
                self.gaps -= set(names)
                return
            if to_its_end and isinstance(failure, Busy):
                self._give_up_undos(names)
            self.let_pass(10 if to_its_end else 0)
        if to_its_end:
            raise AssertionError(f"it cannot be rebuilt: {failure!r}")

    def _give_up_undos(self, names: Sequence[str]) -> None:
        """Give up the undos that were left unfinished: no rebuild begins before that."""
        for name in names:
            with connect(self.endpoint) as connection:
                found = rebuilds.under_way(connection, name)
            if found is not None and found.undoing:
                self._run("rebuild --discard", partial(rebuilding.discard, self._wiring(), self.declared[name]))

    def _undo(self) -> None:
        name = self.plan.choice(list(PROJECTIONS))
        self.declared |= self._in_use()
        with connect(self.endpoint) as connection:
            done = rebuilds.find(connection, name)
            if done is not None and done.former.name in self.damaged:
                return
            leads_to_less = bool(function_position.gaps(connection, {name})) or (
                done is not None and done.former.projection != done.table.projection
            )
            version = 0 if done is None else done.former.version
            marked = connection.query(
                "SELECT 1 FROM cqrs_function_gap WHERE projection = %s AND version >= %s", (name, version)
            )
        if leads_to_less or marked:
            self.eye.blind.add(name)
        self.eye.expect_undo(name)
        for _ in range(self.plan.randint(1, 3)):
            if self._run(f"rebuild --undo {name}", lambda: self._rebuilt([name], Unfit.SKIP, undo=True)) is None:
                self.eye.undone.discard(name)
                break
        self.declared |= self._in_use()
        self._look_for_gaps_of_function()
        if name in self.eye.blind:
            self.eye.forget(name)
            self.eye.blind.discard(name)

    def _discard(self) -> None:
        name = self.plan.choice(list(PROJECTIONS))
        self._run(f"rebuild {name}", lambda: self._rebuilt([name], Unfit.SKIP), killed_after=self.plan.uniform(0.5, 6))
        self._run("rebuild --discard", lambda: rebuilding.discard(self._wiring(), self.declared[name]))
        self.declared |= self._in_use()

    def _widen_or_narrow(self) -> None:
        name = self.plan.choice(list(PROJECTIONS))
        before = self.declared[name]
        width = WIDE if width_of(before) == NARROW else NARROW
        self.declared[name] = replace(PROJECTIONS[name], columns=product(width).columns)
        self.rebuild([name])
        self.declared |= self._in_use()

    def _retry_letters(self) -> None:
        self._run("dead-letter retry", lambda: list(settling.retry(self._wiring(), None)))
        self._letters = {}  # a letter whose change is stale by now is done as well
        self._count_letters()

    def _discard_letters(self) -> None:
        numbers = [number for number, is_settled in self._letters.items() if not is_settled]
        some = self.plan.sample(numbers, len(numbers) // 2)
        self._run("dead-letter discard", lambda: settling.discard(self._wiring(), some))
        self._letters = {}
        self._count_letters()

    def _repair(self) -> None:
        """Somebody changed rows by hand, and `verify --repair` puts them right."""
        name = self.plan.choice(list(PROJECTIONS))
        if self.gaps or not self.stream.is_on:
            return None
        self.eye.blind.add(name)
        self.damaged.add(self._change_by_hand(name))
        self.let_pass(INCONSISTENT_SECONDS)  # what a scan shows is from after that
        misfits: list[int] = []
        for _ in range(_MOST_TRIES):
            if not self.followers:  # it waits until what is in flight is applied
                self.follow([each for each in PROJECTIONS if each not in self.gaps])
            failure = self._run("verify --repair", partial(self._verify, name, misfits))
            if failure is None:
                break
            if isinstance(failure, Busy):  # a rebuild was left unfinished
                self.rebuild([name], to_its_end=True)
            self.project_once([each for each in PROJECTIONS if each not in self.gaps])
            if name in self.gaps:
                return self._rebuild_all_with_gaps(name)
        else:
            raise AssertionError("it cannot be repaired")
        if misfits[-1]:  # what was changed by hand cannot be made right in place
            self.rebuild([name], to_its_end=True)
        # A row that was deleted by hand and is right to be absent has no guard until the change that made it so comes.
        self.project_once([each for each in PROJECTIONS if each not in self.gaps])
        if name not in self.gaps:
            self.eye.blind.discard(name)
        return None

    def _verify(self, name: str, misfits: list[int]) -> None:
        """Repair, and note how many rows cannot be repaired in place. Raises Drift if others are left."""
        clock = ProcessClock(self.processes)
        verification = Verification(self._wiring(), self.declared[name], clock, _ignore, repair=True)
        for row in verification.run():
            self._log(str(row))
        misfits.append(verification.result.drift[DriftKind.MISFIT])
        if verification.result.left > misfits[-1]:
            raise Drift("some rows are not repaired")

    def _purge(self) -> None:
        def purge() -> None:
            plans = purging.plan(self._wiring(), timedelta(hours=self.plan.choice([25, 26, 48])))
            self._log(f"purged {purging.run(self._wiring(), plans, _ignore)}")

        self._run("read-model purge", purge)

    def _replace_stream(self) -> None:
        self.stream.switch_off()
        self.let_pass(self.plan.choice([0, 10, 100]))
        self.stream.switch_on()

    def _remake_table(self) -> None:
        self.stream.remake()
        self.let_pass(self.plan.uniform(0, 5))

    def _deny(self) -> None:
        self.stream.denied_until = self.clock.monotonic() + self.plan.choice([5, 60, 400])
        self.let_pass(self.plan.uniform(5, 30))

    def _end(self) -> None:
        """Writing ends, all is caught up with, and every gap is ended."""
        self.writers.stop()
        self.stream.denied_until = 0.0
        if self.plan.random() < 0.5:
            self._catch_up_by_function()
        self.stop_followers()
        self.project_once([name for name in PROJECTIONS if name not in self.gaps])
        self.compare("by `project --once`", set(PROJECTIONS) - self.gaps)
        self._rebuild_all_with_gaps()
        self.project_once(list(PROJECTIONS))
        self.compare("after the rebuilds", set(PROJECTIONS) - self.gaps)

    def _catch_up_by_function(self) -> None:
        """Let the function alone handle what is left. Where it cannot have all, somebody has to be told so."""
        self.stop_followers()
        mapping = self.functions.mapping
        if not self.functions.is_at_work or mapping is None or mapping.stream_arn != self.stream.arn:
            return
        if not self.processes.until(lambda: self.functions.is_through, 3_600):
            raise AssertionError("the function is stuck")
        names = set(PROJECTIONS) - self.gaps
        with connect(self.endpoint) as connection:
            names -= {gap.projection for gap in function_position.gaps(connection)}

        for _ in range(_MOST_TRIES):
            failure = self._run("lag", self._require_nothing_unhandled)
            if isinstance(failure, StreamGap):
                return
            if failure is None:
                break
            self.let_pass(2)
        self.compare("by the function", names)

    # How it is done.

    def _require_nothing_unhandled(self) -> None:
        """The function is through, so nothing waits for it; a projector's checkpoints may be older.

        Raises StreamGap, and as the facts do.
        """
        quiet = {"iterator_age_seconds": None}  # nothing was invoked lately
        found = Facts(self._wiring(), ProcessClock(self.processes), known=quiet).backlog()
        if found.by_function and found.waiting_seconds:
            raise AssertionError(f"a change seems to wait for {found.waiting_seconds} s, though it was handled")

    def _run(self, name: str, work: Callable[[], object], killed_after: float | None = None) -> BaseException | None:
        """Let a process do it to its end; how it failed. Raises what is no error of cqrsctl's."""
        process = self._start(name, work)
        end = self.clock.monotonic() + (_COMMAND_SECONDS if killed_after is None else killed_after)
        while process.is_alive:
            self.let_pass(0.5)
            if self.clock.monotonic() >= end and process.is_alive:
                if killed_after is None:
                    raise AssertionError(f"{name} comes to no end")
                self.processes.kill(process)
        self._take_note(process)
        return process.failure

    def _start(self, name: str, work: Callable[[], object]) -> Process:
        process = self.processes.start(name, work)
        process.skew_seconds = self.plan.uniform(-MOST_SKEW_SECONDS, MOST_SKEW_SECONDS)
        return process

    def _take_note(self, process: Process) -> None:
        failure = process.failure
        self._log(f"{process.name}: {process.result if failure is None else repr(failure)}")
        if failure is not None and not isinstance(failure, (CqrsctlError, Killed)):
            raise failure
        if isinstance(failure, ConfigurationError) and failure.code == "projection_new":
            self.gaps |= {name for name in PROJECTIONS if f"Projection {name} is new" in failure.message}
        if isinstance(failure, StreamGap):
            self._require_loss(failure)
            self.gaps |= failure.followers or set(PROJECTIONS)

    def _take_notice(self, names: Sequence[str], what: str) -> None:
        """That the stream does not hold all items is a gap of those that are filled from it."""
        self._log(what)
        if "`cqrsctl rebuild` loads them" in what:
            self.gaps |= set(names)

    def _require_loss(self, gap: StreamGap) -> None:
        is_one = self.stream.arn == self._first_arn and self.stream.is_on
        if is_one and not self.stream.trimmed and self.clock.monotonic() < 20 * 3600:
            self.wrong.append(f"a gap where nothing was lost: {gap}")

    def let_pass(self, seconds: float, step_seconds: float = 0.5) -> None:
        """Let time pass, and start projectors again that have died."""
        end = self.clock.monotonic() + seconds
        while True:
            for follower in self.followers:
                self._keep_running(follower)
            left = end - self.clock.monotonic()
            if left <= 0:
                return
            self.processes.wait(min(left, step_seconds))

    def _keep_running(self, follower: Follower) -> None:
        if follower.process is not None and follower.process.is_alive:
            return
        if follower.process is not None:
            self._take_note(follower.process)
            follower.process = None
            follower.due = self.clock.monotonic() + self.plan.uniform(0.5, 5)
        names = [name for name in follower.names if name not in self.gaps]
        if names and self.clock.monotonic() >= follower.due:
            follower.process = self._start(f"project {', '.join(names)}", lambda: self._project(names, once=False))

    def follow(self, names: list[str]) -> None:
        if names:
            self.followers.append(Follower(names))
            self.let_pass(0)

    def stop_followers(self) -> None:
        for follower in self.followers:
            if follower.process is not None and follower.process.is_alive:
                self.processes.kill(follower.process)
        self.followers.clear()
        self.let_pass(1)

    def project_once(self, names: Sequence[str]) -> None:
        """Catch up; who has a gap is told so."""
        self.stop_followers()
        for number in range(_MOST_TRIES):
            left = [name for name in names if name not in self.gaps]
            self.mishaps.happen = number < _TRIES_WITH_MISHAPS
            failure = self._run("project --once", partial(self._project, left, once=True)) if left else None
            self.mishaps.happen = True
            if failure is None:
                return
            self.let_pass(10)
        raise AssertionError("it cannot be projected")

    def _rebuild_all_with_gaps(self, *others: str) -> None:
        while names := sorted(self.gaps | set(others)):
            self.rebuild(names, to_its_end=True)
            for name in names:
                self.eye.blind.discard(name)
            others = ()

    def _project(self, names: Sequence[str], *, once: bool) -> object:
        projections = tuple(self.declared[name] for name in names)
        clock: Any = ProcessClock(self.processes)
        notice = partial(self._take_notice, names)
        run = project.Run(self._wiring(), projections, clock, _ignore, notice, OnError.DEAD_LETTER)
        return project.from_stream(run, once=once, beginning=Beginning.HORIZON, dry_run=False)

    def _rebuilt(self, names: Sequence[str], unfit: Unfit, *, undo: bool = False) -> None:
        wiring = self._wiring()
        chosen = [self.declared[name] for name in names]

        def rebuilt(one: Projection) -> Any:
            clock = ProcessClock(self.processes)
            return Rebuilding(wiring, one, clock, _ignore, self._log, None, unfit).run(undo=undo)

        rebuilding.rebuild_all(chosen, rebuilt, lambda: rebuilding.with_gap(wiring, chosen), again=not undo)

    def _zipped(self, projections: tuple[Projection, ...]) -> Callable[[dict[str, Any]], None]:
        """The function, as it is with these projections: what Lambda hands its events to."""
        login: Any = SimpleNamespace(forget=lambda: None)
        made: list[ProjectorFunction] = []

        def invoke(event: dict[str, Any]) -> None:
            def handle() -> None:
                if not made or self.rng.random() < 0.05:
                    made[:] = [ProjectorFunction(TABLE, projections, self.endpoint, login, self.clock.aws_now)]
                try:
                    made[0](event, "Lambda function simulated")
                except Killed:
                    made.clear()
                    raise

            process = self.processes.start("function", handle)
            self.processes.until(lambda: not process.is_alive, _COMMAND_SECONDS)
            if process.failure is not None:
                self._log(f"function: {process.failure!r}")
                raise TimeoutError from process.failure

        return invoke

    def _look_for_gaps_of_function(self) -> None:
        with connect(self.endpoint) as connection:
            self.gaps |= {gap.projection for gap in function_position.gaps(connection)}

    def _in_use(self) -> dict[str, Projection]:
        """The projections as the tables behind the views are declared."""
        with connect(self.endpoint) as connection:
            return registry.registered(connection)

    def _change_by_hand(self, name: str) -> str:
        """Change rows of the table behind a view; the name of the table."""
        with connect(self.endpoint) as connection:
            (active,) = registry.read(connection, [self.declared[name]]).active
            where = schema.quoted(active.name)
            # A tombstone guards what nobody sees: without it an older change may come in once more.
            rows = connection.query(f"SELECT ProductId FROM {where} WHERE _deleted = FALSE ORDER BY ProductId")
            for key in self.plan.sample([row["ProductId"] for row in rows], len(rows) // 3):
                statement = self.plan.choice(
                    [
                        f"DELETE FROM {where}",
                        f"UPDATE {where} SET Name = 'changed by hand', Price = 1, OutOfStock = FALSE",
                    ]
                )
                connection.execute(f"{statement} WHERE ProductId = %s", (key,))
            connection.commit()
        return active.name

    def compare(self, when: str, names: Collection[str]) -> None:
        self.eye.look()
        self.wrong += [f"{when}: {difference}" for difference in self.eye.differences(sorted(names))]

    def _count_letters(self) -> None:
        """No letter may vanish, or be settled by anything but a retry or a discarding."""
        with connect(self.endpoint) as connection:
            rows = connection.query("SELECT id, settled FROM cqrs_dead_letter")
        now = {row["id"]: row["settled"] is not None for row in rows}
        gone = [number for number, was_settled in self._letters.items() if not was_settled and now.get(number, True)]
        self.wrong += [f"letter {number} is gone" for number in gone]
        self._letters = now

    def _resume_writing(self) -> None:
        self.writers.begin(self.plan.choice([0.5, 1.0, 3.0]))

    def _wiring(self) -> Wiring:
        """What a command is given: the settings as they are declared now, and clients of this world."""
        environment = Environment(
            name="simulated",
            embedded=False,
            profile=None,
            region="eu-central-1",
            endpoint_url=None,
            table=TABLE,
            database=DatabaseSettings(name=self.endpoint.database),
            projections=tuple(self.declared.values()),
            state_dir=Path(),
        )
        wiring = _Wiring(environment)
        wiring.functions = self.functions
        wiring.__dict__ |= {
            "dynamodb": self.dynamodb,
            "streams": self.stream,
            "servers": Servers(lambda: Topology(self.endpoint), self.clock.monotonic),
        }
        return wiring

    def _log(self, what: str) -> None:
        self.told.append(f"{self.clock.monotonic():9.1f} {what}")


class _Wiring(Wiring):
    functions: Any

    def client(self, service: str, region_name: str | None = None, *, attempts: int | None = None) -> Any:
        return {"dynamodb": self.dynamodb, "lambda": self.functions}[service]


class _Deployment(Functions):
    """The function with its mapping alone: role, queue and logs make no difference to what is projected."""

    invoke: Any

    def plan(self, which: Which, options: Options, code: bytes) -> list[Part]:
        client = self.client("lambda")
        operation, code_as = ("UpdateFunctionCode", "ZipFile") if client.invoke else ("CreateFunction", "Code")
        function = ApiCall("lambda", operation, {"FunctionName": PROJECTOR, code_as: self.invoke})
        stream_arn = table.require_stream(table.describe(self.wiring.dynamodb, TABLE))
        spec = MappingSpec(PROJECTOR, stream_arn, "arn:aws:sqs:eu-central-1:123456789012:failures")
        mapped = mappings_of_function(client, PROJECTOR) if client.invoke else []
        return [Part("function", calls=(function,)), spec.part(mapped, self.clock.now())]


def _ignore(_: object) -> None:
    """Nobody looks at it."""
