"""Operating the two Lambda functions: package, deploy, invoke, pause, resume, follow and delete them."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from cqrsctl.aws import ApiCall
from cqrsctl.errors import AwsError, ConfigurationError, CqrsctlError, UsageError
from cqrsctl.functions import deploy as deployment
from cqrsctl.functions import function as functions
from cqrsctl.functions import logs, package, queue, readiness, roles, secret
from cqrsctl.functions import mapping as mappings
from cqrsctl.functions.parts import COMMAND, PROJECTOR, Part, log_group, queue_name, role_name
from cqrsctl.pipeline import function_database, function_gaps
from cqrsctl.read_model.connection import HINT_FOR_BUNDLE
from cqrsctl.write_model import table
from cqrsctl.write_model.products import Existence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from cqrsctl.clock import Clock
    from cqrsctl.errors import StreamGap
    from cqrsctl.functions.deploy import Options
    from cqrsctl.functions.logs import LogLine
    from cqrsctl.functions.mapping import Mapping
    from cqrsctl.wiring import Wiring
    from cqrsctl.write_model.product import Product

_log = logging.getLogger(__name__)

_UPDATE = "UpdateEventSourceMapping"


class Which(StrEnum):
    """The functions, as they are typed."""

    COMMAND = "command"
    PROJECTOR = "projector"
    ALL = "all"


class FunctionFailed(CqrsctlError):
    """The function was invoked and ended with an error of its own."""

    code = "function_failed"


@dataclass(frozen=True, slots=True)
class Removal:
    """One step of a deletion, and what is said of what stays."""

    part: Part
    remark: str = ""


class Functions:
    """The two functions of one environment, and what can be done with them."""

    def __init__(
        self,
        wiring: Wiring,
        clock: Clock,
        note: Callable[[str], None],
        progress: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.wiring = wiring
        self.clock = clock
        self.note = note
        self.progress = progress
        self.clients: dict[str, Any] = {}
        self.gap: StreamGap | None = None
        """Changes that were lost, as `deploy` or `switch` found; they make everything all the same."""

    def client(self, service: str) -> Any:
        """The client of a service, made once."""
        if service not in self.clients:
            self.clients[service] = self.wiring.client(service)
        return self.clients[service]

    def package(self) -> bytes:
        """The zip of both functions. Raises ConfigurationError if the projector would refuse the database."""
        remote = function_database.unverifiable_server(self.wiring.environment)
        if remote is not None:
            raise ConfigurationError(
                f"The projector would not connect to {remote}: there is no CA bundle to verify it with.",
                hint=HINT_FOR_BUNDLE,
                code="tls",
            )
        return self.code()

    def code(self) -> bytes:
        """The zip of both functions, with the environment's projections, whether they could work with it or not."""
        environment = self.wiring.environment
        return package.build(environment.projections, environment.database.ca_bundle)

    def plan(self, which: Which, options: Options, code: bytes) -> list[Part]:
        """Everything that a deployment consists of, with the calls that are needed; nothing is changed.

        Raises UsageError, ConfigurationError, and AwsError if something of our names is not ours.
        """
        if options.on_failure is not None:
            queue.require_destination(options.on_failure)
        if options.role:
            roles.require_arn(options.role, "role")
        if options.boundary:
            roles.require_arn(options.boundary, "policy")
        if which is Which.COMMAND and options.for_projector:
            raise UsageError("Network, batches and the destination of failures are the projector's.")
        name = self.wiring.environment.table
        found = table.require_product_table(self.client("dynamodb"), name)
        parts = []
        if which is not Which.COMMAND:
            parts += self._projector_parts(found, options, code)
        if which is not Which.PROJECTOR:
            parts += deployment.plan_command(self.client, name, found.arn, code, options, found.kms_key)
        return parts

    def deploy(self, which: Which, options: Options, code: bytes, *, wait: bool) -> list[Part]:
        """Make what differs, and wait until the functions are active and the mapping enabled.

        What became of each part; `gap` is set if changes are lost by it. Raises AwsError, which names what was made
        before it.
        """
        if which is not Which.COMMAND:
            self._settled()
        planned = self.plan(which, options, code)
        if which is not Which.COMMAND:
            self._record_losses(planned)
        if any(call.service == secret.SERVICE for call in planned[0].calls):
            # Only now the secret's ARN is known, which the role and the function are given.
            self._maker().make(planned[:1])
            planned = [planned[0], *self.plan(which, options, code)[1:]]
            self._maker().make(planned[1:])
        else:
            self._maker().make(planned)
        if wait:
            self._wait(which)
        return planned

    def mappings(self) -> list[Mapping]:
        """The projector's mappings, also of a function that a template made.

        Raises AwsError if there is none, or no function, or if it serves another table.
        """
        functions.describe(self.client("lambda"), PROJECTOR).require_serving(self.wiring.environment.table)
        found = mappings.of_function(self.client("lambda"), PROJECTOR)
        mappings.require(PROJECTOR, found)
        return found

    def switch_calls(self, *, enabled: bool) -> list[ApiCall]:
        """The calls that pause or resume the projector; none if that is so already."""
        return [mappings.switch_call(each, enabled=enabled) for each in self.mappings() if each.paused is enabled]

    def paused_too_long(self) -> bool:
        """Whether the projector is paused for so long that changes may have left the stream, if AWS reports it."""
        return any(each.paused_too_long(self.clock.now()) for each in self.mappings())

    def switch(self, *, enabled: bool, wait: bool) -> bool:
        """Pause or resume the projector, and wait until it is so; False if it was so already.

        `gap` is set if changes were lost by the pause.
        """
        self._settled()
        found = self.mappings()
        calls = self.switch_calls(enabled=enabled)
        for each in found if enabled else ():
            if each.paused:
                self.gap = function_gaps.before_resume(self.wiring, each, self.clock.now()) or self.gap
        part = Part("mapping", calls=tuple(calls))
        self._maker().make([part])
        state = mappings.ENABLED if enabled else mappings.DISABLED
        for each in found if wait else ():
            readiness.until_settled(self.client("lambda"), PROJECTOR, each.uuid, state, self.clock, self.progress)
        return bool(calls)

    def invoke(self, payload: str) -> Any:
        """Send a command through the command function; its answer.

        Raises UsageError if the payload is no JSON, AwsError, and FunctionFailed with the function's own message.
        """
        return _invoke_command(self.wiring, self.client("lambda"), invoke_call(payload))

    def logs(self, which: Which, since: datetime, *, follow: bool) -> Iterator[LogLine]:
        """The lines of a function's log, each once; endless with `follow`."""
        name = COMMAND if which is Which.COMMAND else PROJECTOR
        return logs.lines(self.client("logs"), name, since, self.clock, follow=follow)

    def removals(self, *, with_logs: bool) -> list[Removal]:
        """All that a deletion does, in order; data stays. Raises AwsError if something is not ours.

        The roles are last, so that they are there for as long as anything uses them.
        """
        found = []
        lambda_client = self.client("lambda")
        with_interfaces = []
        for name in (PROJECTOR, COMMAND):
            there = functions.find(lambda_client, name)
            if there is None:
                continue
            there.require_ours(self.wiring.environment.table)
            if mapped := mappings.of_function(lambda_client, name):
                found.append(_removal(f"mapping of {name}", [mappings.delete_call(each) for each in mapped]))
            found.append(_removal(f"function {name}", [functions.delete_call(name)], there.former_role_note))
            with_interfaces += [name] if there.subnets else []
        if there_queue := queue.find(self.client("sqs"), queue_name(PROJECTOR)):
            found.append(_removal(f"queue {there_queue.name}", *queue.delete_calls(there_queue)))
        name = secret.secret_name(self.wiring.environment.name)
        if (kept := secret.find(self.client("secretsmanager"), name)) and (calls := secret.delete_calls(kept)):
            remark = f"Secret {name} can be had back for {secret.RECOVERY_DAYS} days."
            found.append(_removal(f"secret {name}", calls, remark))
        groups = [log_group(name) for name in (PROJECTOR, COMMAND)] if with_logs else []
        there_groups = [group for group in groups if logs.find(self.client("logs"), group)]
        found += [_removal(f"log group {group}", [logs.delete_call(group)]) for group in there_groups]
        return [*found, *self._role_removals(lambda_client.meta.region_name, with_interfaces)]

    def _role_removals(self, region: str, with_interfaces: Sequence[str]) -> Iterator[Removal]:
        """The roles; that of a function in a VPC only once the function is gone.

        Lambda removes a function's network interfaces with the function's role, up to 20 minutes after the function.
        Source: https://github.com/awslabs/aws-support-tools/pull/174.
        """
        for function in (PROJECTOR, COMMAND):
            role = roles.find(self.client("iam"), role_name(function, region))
            if role is None:
                continue
            calls, remark = roles.delete_calls(role)
            if function in with_interfaces:
                calls = []
                remark = (
                    f"Role {role.name} is kept, because Lambda removes the function's network interfaces with it, "
                    "for up to 20 minutes. Delete it after that with the same command."
                )
            yield _removal(f"role {role.name}", calls, remark)

    def remove(self, removals: Sequence[Removal]) -> None:
        """Make a planned deletion, and say what stays."""
        self._maker().make([removal.part for removal in removals])
        for removal in removals:
            if removal.remark:
                self.note(removal.remark)

    def _projector_parts(self, found: table.Table, options: Options, code: bytes) -> list[Part]:
        source = deployment.EventSource(found.name, found.arn, table.require_stream(found), found.kms_key)
        own_secret = function_database.secret_part(self.wiring, self.client)
        access = function_database.access(self.wiring, self.client, source.place)
        parts = deployment.plan_projector(self.client, source, access, code, options, self.clock.now())
        return [*([own_secret] if own_secret else []), *parts]

    def _record_losses(self, planned: Sequence[Part]) -> None:
        """Mark which changes are lost before the calls that make it unknown."""
        client, name = self.client("lambda"), self.wiring.environment.table
        there = mappings.of_function(client, PROJECTOR) if functions.find(client, PROJECTOR) else []
        mapped = [each for each in there if each.is_of(name)]
        described = table.describe(self.client("dynamodb"), name)
        stream_arn = table.require_stream(described)
        if any(each.stream_arn != stream_arn for each in mapped):
            self.gap = function_gaps.before_replacement(self.wiring, mapped, stream_arn)
        elif not mapped:
            self.gap = function_gaps.before_creation(self.wiring, stream_arn)
            warning = table.unrecorded_items(described, self.clock.now())
            if warning and function_gaps.is_any_unfilled(self.wiring):
                self.note(warning)
        updated = {call.parameters["UUID"] for part in planned for call in part.calls if call.operation == _UPDATE}
        for each in mapped:
            if each.paused and each.uuid in updated:
                failure = function_gaps.before_update(self.wiring, each, self.clock.now())
                if failure:
                    self.note(failure)

    def _settled(self) -> None:
        """Wait until no mapping of the projector changes: only then it can be seen whether it is paused."""
        if functions.find(self.client("lambda"), PROJECTOR):
            readiness.all_settled(self.client("lambda"), PROJECTOR, self.clock, self.progress)

    def _wait(self, which: Which) -> None:
        client = self.client("lambda")
        if which is not Which.PROJECTOR:
            readiness.until_ready(client, COMMAND, self.clock, self.progress)
        if which is Which.COMMAND:
            return
        readiness.until_ready(client, PROJECTOR, self.clock, self.progress)
        for each in readiness.all_settled(client, PROJECTOR, self.clock, self.progress):
            if each.paused:
                self.note("The projector is paused; resume it with: cqrsctl function resume")

    def _maker(self) -> deployment.Maker:
        return deployment.Maker(self.client, self.clock, self.progress)


def mapping_state(wiring: Wiring, stream_arn: str) -> str | None:
    """The state of the mapping that brings this table's changes to the projector function, as `Enabled`.

    None if there is no function or no mapping, if functions are not run, or if this identity may not look.
    """
    mapping = _mapping(wiring, stream_arn)
    return mapping.state if mapping else None


def reads_since(wiring: Wiring, stream_arn: str) -> datetime | None:
    """Since when the projector function has been reading a stream without a problem; None if not, or unknown."""
    mapping = _mapping(wiring, stream_arn)
    return mapping.reads_since if mapping and mapping.stream_arn == stream_arn else None


def _mapping(wiring: Wiring, stream_arn: str) -> Mapping | None:
    if not wiring.environment.runs_functions:
        return None
    client = wiring.client("lambda", attempts=1)  # an endpoint may know no functions
    try:
        mapped = mappings.of_function(client, PROJECTOR) if functions.find(client, PROJECTOR) else []
    except (AwsError, ConfigurationError) as error:
        _log.info("whether a function reads the stream is unknown: %s", error.message)
        return None
    return mappings.serving(mapped, wiring.environment.table, stream_arn)


def put_call(product: Product, existence: Existence = Existence.ANY) -> ApiCall:
    """The call that puts a product through the deployed command function."""
    command = {**product.fields(), "Price": format(product.price, "f")}
    if existence is not Existence.ANY:
        command["existence"] = existence.value
    return invoke_call(json.dumps(command))


def put_via_function(wiring: Wiring, call: ApiCall) -> dict[str, Any]:
    """Make a put_call; the function's answer: the product's fields and the `outcome`.

    Raises AwsError if there is no such function, FunctionFailed if it refused.
    """
    answer = _invoke_command(wiring, wiring.client("lambda"), call)
    if not isinstance(answer, dict):
        raise FunctionFailed(f"Function {COMMAND!r} did not answer with a product, but with: {str(answer)[:200]}")
    return answer


def invoke_call(payload: str) -> ApiCall:
    """The call that sends a command. Raises UsageError if it is no JSON."""
    try:
        json.loads(payload)
    except ValueError as error:
        raise UsageError(
            f"The payload is not JSON: {error}.", hint="Give JSON, @FILE, or - for standard input."
        ) from error
    return ApiCall("lambda", "Invoke", {"FunctionName": COMMAND, "Payload": payload})


def _invoke_command(wiring: Wiring, client: Any, call: ApiCall) -> Any:
    """Invoke the command function and wait for its answer.

    Raises AwsError if there is no such function, and FunctionFailed with the function's own message.
    """
    if not wiring.environment.runs_functions:
        raise AwsError(
            "The embedded endpoint keeps functions, but runs none.",
            hint="Put products with `cqrsctl product put`, or name an endpoint that runs functions:"
            " AWS_ENDPOINT_URL_LAMBDA.",
            code="function_not_run",
        )
    functions.describe(client, COMMAND)
    answer = call.make(client)
    text = answer["Payload"].read().decode()
    try:
        content = json.loads(text) if text else None
    except ValueError:
        content = text
    if answer.get("FunctionError"):
        reason = content.get("errorMessage") if isinstance(content, dict) else content
        raise FunctionFailed(
            f"Function {COMMAND!r} failed: {reason or 'it does not say why'}",
            hint="See its log with: cqrsctl function logs command",
        )
    return content


def _removal(name: str, calls: Sequence[ApiCall], remark: str = "") -> Removal:
    return Removal(Part(name, "deleted" if calls else "kept", tuple(calls)), remark)
