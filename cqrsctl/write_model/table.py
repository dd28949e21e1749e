"""The write model's table: what is asked for, what is there, and the API calls between the two."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from cqrsctl import polling
from cqrsctl.aws import ApiCall, error_code
from cqrsctl.change import RETENTION, stream_label_micros
from cqrsctl.errors import AwsError
from cqrsctl.kms import key_asked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cqrsctl.clock import Clock

KEY = "ProductId"
VIEW_TYPE = "NEW_AND_OLD_IMAGES"
PROJECTABLE = {VIEW_TYPE, "NEW_IMAGE"}
"""The view types that have new images."""
STREAM_ON = {"StreamEnabled": True, "StreamViewType": VIEW_TYPE}
_SETTLED = "ACTIVE"
_BACKUPS_NOT_READY = "ContinuousBackupsUnavailableException"
_UNKNOWN_OPERATION = "UnknownOperationException"
_PATIENCE = timedelta(minutes=10)
_STREAM_OF_CREATION = timedelta(seconds=1)
"""How much later than the table the stream that it was created with is, at most."""


@dataclass(frozen=True, slots=True)
class TableSpec:
    """The requested table. Capacities are units a second and count only if billing is provisioned."""

    name: str
    on_demand: bool = True
    read_capacity: int = 5
    write_capacity: int = 5
    stream: bool = True
    point_in_time_recovery: bool = True
    deletion_protection: bool = True
    kms_key: str | None = None
    tags: tuple[tuple[str, str], ...] = ()

    def create_call(self) -> ApiCall:
        parameters: dict[str, Any] = {
            "TableName": self.name,
            "AttributeDefinitions": [{"AttributeName": KEY, "AttributeType": "N"}],
            "KeySchema": [{"AttributeName": KEY, "KeyType": "HASH"}],
            "BillingMode": "PAY_PER_REQUEST" if self.on_demand else "PROVISIONED",
            "StreamSpecification": STREAM_ON if self.stream else {"StreamEnabled": False},
            "DeletionProtectionEnabled": self.deletion_protection,
        }
        if not self.on_demand:
            parameters["ProvisionedThroughput"] = {
                "ReadCapacityUnits": self.read_capacity,
                "WriteCapacityUnits": self.write_capacity,
            }
        if self.kms_key:
            parameters["SSESpecification"] = {
                "Enabled": True,
                "SSEType": "KMS",
                "KMSMasterKeyId": self.kms_key,
            }
        if self.tags:
            parameters["Tags"] = [{"Key": key, "Value": value} for key, value in self.tags]
        return ApiCall("dynamodb", "CreateTable", parameters)

    def backups_call(self) -> ApiCall:
        return ApiCall(
            "dynamodb",
            "UpdateContinuousBackups",
            {
                "TableName": self.name,
                "PointInTimeRecoverySpecification": {"PointInTimeRecoveryEnabled": self.point_in_time_recovery},
            },
        )

    def calls(self) -> list[ApiCall]:
        """All calls of a creation."""
        return [self.create_call(), *([self.backups_call()] if self.point_in_time_recovery else [])]


@dataclass(frozen=True, slots=True)
class Table:
    """The table as DynamoDB describes it. `items` and `bytes` are estimates about six hours old on AWS."""

    name: str
    arn: str
    status: str
    key: tuple[tuple[str, str], ...]
    items: int
    bytes: int
    on_demand: bool
    read_capacity: int
    write_capacity: int
    deletion_protection: bool
    kms_key: str | None
    stream_arn: str | None
    view_type: str | None
    latest_stream_arn: str | None = None
    """The table's last stream, also if it was switched off."""
    created_at: datetime | None = None
    table_class: str = "STANDARD"

    @classmethod
    def of(cls, description: Mapping[str, Any]) -> Table:
        types = {a["AttributeName"]: a["AttributeType"] for a in description["AttributeDefinitions"]}
        stream = description.get("StreamSpecification") or {}
        throughput = description.get("ProvisionedThroughput") or {}
        streaming = bool(stream.get("StreamEnabled"))
        return cls(
            name=description["TableName"],
            arn=description.get("TableArn", ""),
            status=description["TableStatus"],
            key=tuple((part["AttributeName"], types[part["AttributeName"]]) for part in description["KeySchema"]),
            items=description.get("ItemCount", 0),
            bytes=description.get("TableSizeBytes", 0),
            on_demand=(description.get("BillingModeSummary") or {}).get("BillingMode") == "PAY_PER_REQUEST",
            read_capacity=throughput.get("ReadCapacityUnits", 0),
            write_capacity=throughput.get("WriteCapacityUnits", 0),
            deletion_protection=bool(description.get("DeletionProtectionEnabled")),
            kms_key=(description.get("SSEDescription") or {}).get("KMSMasterKeyArn"),
            stream_arn=description.get("LatestStreamArn") if streaming else None,
            view_type=stream.get("StreamViewType") if streaming else None,
            latest_stream_arn=description.get("LatestStreamArn"),
            created_at=description.get("CreationDateTime"),
            table_class=(description.get("TableClassSummary") or {}).get("TableClass", "STANDARD"),
        )

    def recorded_since(self, now: datetime) -> datetime | None:
        """Since when the stream holds every change; None if that is since the table was created, or unknown."""
        if self.stream_arn is None or self.created_at is None:
            return None
        switched_on = datetime.fromtimestamp(stream_label_micros(self.stream_arn) / 1_000_000, UTC)
        since = max(switched_on, now - RETENTION)
        return since if since - self.created_at > _STREAM_OF_CREATION else None


def unrecorded_items(table: Table, now: datetime) -> str | None:
    """A warning of items that no change record brings; None if the stream goes back to the table's creation."""
    if (since := table.recorded_since(now)) is None:
        return None
    return (
        f"Items of table {table.name!r} last written before {since:%Y-%m-%d %H:%M:%S} UTC are in no change record that "
        "the stream still holds. `cqrsctl rebuild` loads them."
    )


def describe(client: Any, name: str) -> Table:
    """The table. Raises AwsError (`table_missing`) if there is none."""
    return existing(client, name, find(client, name))


def existing(client: Any, name: str, found: Table | None) -> Table:
    """What was found under a name. Raises AwsError (`table_missing`) if that is nothing."""
    if found is None:
        raise AwsError(
            f"No table {name!r} in {client.meta.region_name} ({client.meta.endpoint_url}).",
            hint="Create it with `cqrsctl table create`, or check --region, --endpoint-url and --env.",
            code="table_missing",
        )
    return found


def find(client: Any, name: str) -> Table | None:
    """The table, or None if there is none."""
    try:
        return Table.of(ApiCall("dynamodb", "DescribeTable", {"TableName": name}).make(client)["Table"])
    except AwsError as error:
        if error_code(error) == "ResourceNotFoundException":
            return None
        raise


def server_time(client: Any, name: str) -> datetime | None:
    """DynamoDB's time, to the second; None if the endpoint does not report it."""
    answer = ApiCall("dynamodb", "DescribeTable", {"TableName": name}).make(client)
    date = answer["ResponseMetadata"]["HTTPHeaders"].get("date")
    return parsedate_to_datetime(date) if date else None


def require_stream(table: Table) -> str:
    """The ARN of the table's stream. Raises AwsError if it is off or has no new images."""
    if table.stream_arn is None:
        raise AwsError(
            f"The stream of table {table.name!r} is off.",
            hint="Switch it on with: cqrsctl table enable-stream. What changed while it was off is recorded nowhere: "
            "rebuild the read model after that, with `cqrsctl rebuild`.",
            code="stream_off",
        )
    if table.view_type not in PROJECTABLE:
        raise AwsError(
            f"The stream of table {table.name!r} has the view type {table.view_type}, which lacks new images.",
            hint="Switch it off and on again, then rebuild the read model: `cqrsctl table disable-stream --yes`, "
            "`cqrsctl table enable-stream`, `cqrsctl rebuild`.",
            code="stream_view_type",
        )
    try:
        stream_label_micros(table.stream_arn)
    except ValueError as error:
        raise AwsError(
            f"The changes of table {table.name!r} cannot be ordered: {error}.",
            hint="This endpoint's streams differ from DynamoDB's; use another emulator.",
            code="stream_label",
        ) from error
    return table.stream_arn


def require_product_table(client: Any, name: str) -> Table:
    """The table, if its key is that of products. Raises AwsError if it is another."""
    table = describe(client, name)
    if table.key != ((KEY, "N"),):
        found = " and ".join(f"{attribute} ({kind})" for attribute, kind in table.key)
        raise AwsError(
            f"Table {name!r} has the key {found}, not {KEY} (N): it does not hold products.",
            hint="Name the products' table in cqrsctl.toml (table = …) or CQRSCTL_TABLE.",
            code="table_differs",
        )
    return table


def differences(
    spec: TableSpec,
    table: Table,
    *,
    recovery: bool | None,
    key: str | None = None,
    tags: Mapping[str, str] | None = None,
) -> list[str]:
    """How the table differs from the requested one, in words.

    `recovery`, `key` (the requested KMS key, as the table would name it) and `tags` are None if they are unknown,
    or not to be compared. Tags that nobody asked for are no difference.
    """
    asked_and_there = [
        ("key", f"{KEY} (N)", ", ".join(f"{name} ({kind})" for name, kind in table.key)),
        ("billing", _billing(spec.on_demand), _billing(table.on_demand)),
        ("stream", VIEW_TYPE if spec.stream else "off", table.view_type or "off"),
        ("deletion protection", _on(spec.deletion_protection), _on(table.deletion_protection)),
    ]
    if not spec.on_demand and not table.on_demand:
        asked_and_there += [
            ("read capacity", str(spec.read_capacity), str(table.read_capacity)),
            ("write capacity", str(spec.write_capacity), str(table.write_capacity)),
        ]
    if recovery is not None:
        asked_and_there.append(("point-in-time recovery", _on(spec.point_in_time_recovery), _on(recovery)))
    if key and key != table.kms_key:
        asked_and_there.append(("KMS key", spec.kms_key or key, table.kms_key or "AWS owned"))
    if tags is not None:
        asked_and_there += [(f"tag {name}", value, tags.get(name, "missing")) for name, value in spec.tags]
    return [f"{what}: asked {asked}, is {there}" for what, asked, there in asked_and_there if asked != there]


def recovery_enabled(client: Any, name: str) -> bool | None:
    """Whether point-in-time recovery is on; None if the endpoint does not report it (DynamoDB Local)."""
    try:
        answer = ApiCall("dynamodb", "DescribeContinuousBackups", {"TableName": name}).make(client)
    except AwsError as error:
        if error_code(error) == _UNKNOWN_OPERATION:
            return None
        raise
    description = answer["ContinuousBackupsDescription"].get("PointInTimeRecoveryDescription") or {}
    return description.get("PointInTimeRecoveryStatus") == "ENABLED"


def plan(
    client: Any, spec: TableSpec, note: Callable[[str], None], kms: Callable[[], Any] | None = None
) -> list[ApiCall]:
    """The calls that create the table; none if it already exists with these settings.

    `kms` makes a client of KMS, to look up what an alias means. Raises AwsError (`table_differs`) listing the
    differences if it exists but differs.
    """
    table = find(client, spec.name)
    if table is None:
        return spec.calls()
    _check_same(client, spec, table, note, kms)
    return []


def create(
    client: Any,
    spec: TableSpec,
    note: Callable[[str], None],
    clock: Clock,
    *,
    kms: Callable[[], Any] | None = None,
) -> bool:
    """Create the table and wait until it is there; False if it already exists with these settings.

    Raises what `plan` raises; nothing is changed then.
    """
    if not plan(client, spec, note, kms):
        return False
    spec.create_call().make(client)
    wait_until_active(client, spec.name, clock)
    if spec.point_in_time_recovery:
        _switch_recovery_on(client, spec, note, clock)
    return True


def _switch_recovery_on(client: Any, spec: TableSpec, note: Callable[[str], None], clock: Clock) -> None:
    """Just after a table is active AWS may still be making its backups ready, and refuses until they are."""
    try:
        polling.until(
            lambda: spec.backups_call().make(client),
            lambda _: True,
            clock,
            _PATIENCE,
            f"Point-in-time recovery of table {spec.name!r} was not switched on",
            "aws dynamodb update-continuous-backups",
            passes=lambda error: error_code(error) == _BACKUPS_NOT_READY,
        )
    except AwsError as error:
        if error_code(error) != _UNKNOWN_OPERATION:
            raise
        note("This endpoint knows no point-in-time recovery; the table is without it.")


def _check_same(
    client: Any, spec: TableSpec, table: Table, note: Callable[[str], None], kms: Callable[[], Any] | None
) -> None:
    found = differences(
        spec,
        table,
        recovery=recovery_enabled(client, spec.name),
        key=key_asked(spec.kms_key, table.kms_key, kms, note, "the table"),
        tags=_tags(client, table, note) if spec.tags else None,
    )
    if found:
        raise AwsError(
            f"Table {spec.name!r} exists, but differs: {'; '.join(found)}. Nothing was changed.",
            hint="Ask for what is there, or change the table first.",
            code="table_differs",
        )


def _tags(client: Any, table: Table, note: Callable[[str], None]) -> dict[str, str] | None:
    """The table's tags; None if they are not reported."""
    pages = ApiCall("dynamodb", "ListTagsOfResource", {"ResourceArn": table.arn}).pages(client)
    try:
        return {tag["Key"]: tag["Value"] for page in pages for tag in page.get("Tags") or ()}
    except AwsError as error:
        note(f"The tags cannot be compared: {error}")
        return None


def wait_until_active(client: Any, name: str, clock: Clock) -> None:
    """Wait until the table is there and takes requests. Raises AwsError after ten minutes."""
    _until(client, name, lambda found: found is not None and found.status == _SETTLED, clock, "active")


def wait_until_gone(client: Any, name: str, clock: Clock) -> None:
    """Wait until the table is deleted. Raises AwsError after ten minutes."""
    _until(client, name, lambda found: found is None, clock, "gone")


def _until(client: Any, name: str, done: Callable[[Table | None], bool], clock: Clock, what: str) -> None:
    not_reached = f"Table {name!r} was not {what}"
    polling.until(lambda: find(client, name), done, clock, _PATIENCE, not_reached, "cqrsctl table status")


def _billing(on_demand: bool) -> str:
    return "on-demand" if on_demand else "provisioned"


def _on(value: bool) -> str:
    return "on" if value else "off"
