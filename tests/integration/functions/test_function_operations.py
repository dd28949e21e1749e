"""Operating the deployed functions through the API, against moto."""

from __future__ import annotations

import io
import json
from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from cqrsctl.diagnosis import function_status
from cqrsctl.errors import AwsError, ConfigurationError, UsageError
from cqrsctl.functions.deploy import Options
from cqrsctl.functions.parts import COMMAND, PROJECTOR
from cqrsctl.pipeline.function_database import unverifiable_server
from cqrsctl.pipeline.function_operations import FunctionFailed, Which, mapping_state, put_call, put_via_function
from cqrsctl.write_model.product import product
from cqrsctl.write_model.products import Existence
from tests.functions_world import (
    NOW,
    OTHER_ZIP,
    QUEUE,
    SETTINGS,
    ZIP,
    Clock,
    Operated,
    changes,
    operated,
    secret_arn,
    stream_arn,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.usefixtures("aws")


def invoked(answer: object, failed: bool = False) -> Callable[..., Any]:
    def act(_: Any, **parameters: Any) -> Any:
        text = answer if isinstance(answer, str) else json.dumps(answer)
        return {"Payload": io.BytesIO(text.encode()), **({"FunctionError": "Unhandled"} if failed else {})}

    return act


def test_a_command_is_sent_as_it_is_and_its_answer_comes_back(deployed: Operated) -> None:
    api = deployed.client("lambda")
    api.instead["invoke"] = invoked({"ProductId": 42, "outcome": "created"})

    assert deployed.invoke('{"ProductId": 42}') == {"ProductId": 42, "outcome": "created"}
    assert api.made("invoke") == [{"FunctionName": COMMAND, "Payload": '{"ProductId": 42}'}]


def test_a_functions_error_is_ours_with_its_message(deployed: Operated) -> None:
    failure = {"errorMessage": "Price missing", "errorType": "InvalidProduct"}
    deployed.client("lambda").instead["invoke"] = invoked(failure, failed=True)

    with pytest.raises(FunctionFailed, match="'ProductCommandFunction' failed: Price missing") as caught:
        deployed.invoke("{}")

    assert caught.value.exit_code == 1
    deployed.client("lambda").instead["invoke"] = invoked("out of memory", failed=True)
    with pytest.raises(FunctionFailed, match="failed: out of memory"):
        deployed.invoke("{}")
    with pytest.raises(UsageError, match="is not JSON"):
        deployed.invoke("{")


def test_a_product_is_put_through_the_function_with_its_condition(
    deployed: Operated, monkeypatch: pytest.MonkeyPatch
) -> None:
    api = deployed.client("lambda")
    api.instead["invoke"] = invoked({"ProductId": 42, "outcome": "created"})
    monkeypatch.setattr(deployed.wiring, "client", lambda service, **_: deployed.clients[service], raising=False)
    lamp = product({"ProductId": 42, "Name": "Lamp", "Price": "19.90"})

    assert put_via_function(deployed.wiring, put_call(lamp))["outcome"] == "created"
    put_via_function(deployed.wiring, put_call(lamp, Existence.ABSENT))

    sent = [json.loads(parameters["Payload"]) for parameters in api.made("invoke")]
    plain = {"ProductId": 42, "Name": "Lamp", "Price": "19.90", "OutOfStock": False}
    assert sent == [plain, {**plain, "existence": "absent"}]
    api.instead["invoke"] = invoked("null")
    with pytest.raises(FunctionFailed, match="did not answer with a product"):
        put_via_function(deployed.wiring, put_call(lamp))


def test_without_functions_every_command_says_so(functions: Operated) -> None:
    for act in (
        lambda: functions.switch(enabled=False, wait=True),
        lambda: functions.invoke("{}"),
        lambda: function_status.status(functions),
    ):
        with pytest.raises(AwsError, match="No function 'Product") as caught:
            act()
        assert caught.value.code == "function_missing"
    with pytest.raises(AwsError, match="There is no log group"):
        list(functions.logs(Which.PROJECTOR, NOW, follow=False))
    assert functions.removals(with_logs=True) == []
    assert mapping_state(functions.wiring, "") is None


def test_a_function_that_a_template_made_can_be_paused_though_not_deleted(deployed: Operated) -> None:
    client = deployed.client("lambda")._client
    for name in (PROJECTOR, COMMAND):
        arn = client.get_function(FunctionName=name)["Configuration"]["FunctionArn"]
        client.untag_resource(Resource=arn, TagKeys=["managed-by"])

    assert deployed.switch(enabled=False, wait=True)
    assert deployed.switch(enabled=True, wait=True)

    with pytest.raises(AwsError, match="not cqrsctl's"):
        deployed.removals(with_logs=False)


def test_a_function_without_a_mapping_cannot_be_paused(deployed: Operated) -> None:
    (mapping,) = deployed.mappings()
    deployed.client("lambda").delete_event_source_mapping(UUID=mapping.uuid)

    with pytest.raises(AwsError, match="No stream is mapped") as caught:
        deployed.switch(enabled=False, wait=True)

    assert caught.value.code == "mapping_missing"
    assert mapping_state(deployed.wiring, "") is None


def test_an_identity_that_may_not_look_is_told_of_no_mapping(
    deployed: Operated, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(deployed.wiring, "client", lambda service, **_: deployed.clients[service], raising=False)
    assert mapping_state(deployed.wiring, "") == "Enabled"
    deployed.client("lambda").refuse("list_event_source_mappings")

    with caplog.at_level("INFO", logger="cqrsctl"):
        assert mapping_state(deployed.wiring, "") is None

    assert "whether a function reads the stream is unknown" in caplog.text


def test_status_tells_state_code_numbers_and_the_destinations_depth(
    deployed: Operated, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deployed, "code", lambda: ZIP)
    numbers = {"errors": [1.0, 2.0], "duration_p99_ms": [10.0, 60_000.0], "iterator_age_ms": [5.0]}
    seen: list[dict[str, Any]] = []

    def measured(_: Any, **asked: Any) -> Any:
        seen.append(asked)
        results = [{"Id": query["Id"], "Values": numbers.get(query["Id"], [])} for query in asked["MetricDataQueries"]]
        return {"MetricDataResults": results}

    deployed.client("cloudwatch").instead["get_metric_data"] = measured
    url = deployed.client("sqs").get_queue_url(QueueName=QUEUE.rsplit(":", maxsplit=1)[-1])["QueueUrl"]
    deployed.client("sqs").send_message(QueueUrl=url, MessageBody="batch")

    found = function_status.status(deployed)

    assert [(each.function.name, each.function.state, each.current) for each in found.functions] == [
        (COMMAND, "Active", True),
        (PROJECTOR, "Active", True),
    ]
    assert found.functions[1].numbers == {
        "invocations": None,
        "errors": 3.0,
        "throttles": None,
        "duration_p99_ms": 60_000.0,
        "iterator_age_ms": 5.0,
    }
    (mapped,) = found.mappings
    assert (mapped.mapping.destination, mapped.depth) == (QUEUE, 1)
    queries = {query["Id"]: query["MetricStat"] for query in seen[1]["MetricDataQueries"]}
    assert queries["iterator_age_ms"] == {
        "Metric": {
            "Namespace": "AWS/Lambda",
            "MetricName": "IteratorAge",
            "Dimensions": [{"Name": "FunctionName", "Value": PROJECTOR}],
        },
        "Period": 60,
        "Stat": "Maximum",
    }
    assert {name: query["Stat"] for name, query in queries.items()} == {
        "invocations": "Sum",
        "errors": "Sum",
        "throttles": "Sum",
        "duration_p99_ms": "p99",
        "iterator_age_ms": "Maximum",
    }
    assert seen[1]["EndTime"] - seen[1]["StartTime"] == timedelta(hours=1)


@pytest.mark.parametrize("database", ['host = "db.example"', 'cluster = "products"'])
def test_a_zip_whose_projector_could_not_connect_is_not_made(tmp_path: Path, database: str) -> None:
    settings = f'[environments.prod]\nregion = "eu-west-1"\n[environments.prod.database]\n{database}\n'

    with pytest.raises(ConfigurationError, match=r"projector would not connect to .*: there is no CA bundle") as caught:
        operated(tmp_path, settings).package()

    assert "https://truststore.pki.rds.amazonaws.com/global/global-bundle.pem" in str(caught.value.hint)
    verified = operated(tmp_path, settings + 'ca_bundle = "bundle.pem"\n')
    assert unverifiable_server(verified.wiring.environment) is None


def test_a_zip_for_a_database_on_this_machine_needs_no_bundle(tmp_path: Path) -> None:
    assert operated(tmp_path, SETTINGS.replace("db.example", "127.0.0.1")).package()


def test_status_notes_what_it_may_not_know(deployed: Operated, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployed, "code", lambda: OTHER_ZIP)
    deployed.client("cloudwatch").refuse("get_metric_data")
    deployed.client("sqs").refuse("get_queue_url")

    found = function_status.status(deployed)

    assert [each.current for each in found.functions] == [False, False]
    assert set(found.functions[0].numbers.values()) == {None}
    assert found.mappings[0].depth is None
    assert any("last hour of ProductHandlerFunction is unknown" in line for line in deployed.notes)
    assert any("depth of ProductHandlerFunction-failures is unknown" in line for line in deployed.notes)


@pytest.mark.parametrize("destination", ["arn:aws:s3:::failed", "arn:aws:sqs:eu-west-1:123456789012:gone"])
def test_the_depth_of_a_bucket_and_of_a_queue_that_is_gone_is_not_known(
    deployed: Operated, monkeypatch: pytest.MonkeyPatch, destination: str
) -> None:
    monkeypatch.setattr(deployed, "code", lambda: ZIP)
    deployed.deploy(Which.PROJECTOR, Options(on_failure=destination), ZIP, wait=True)

    assert [each.depth for each in function_status.status(deployed).mappings] == [None]
    assert any("is not there: what fails for good is lost" in line for line in deployed.notes) is (
        "gone" in destination
    )


def test_a_deletion_leaves_data_alone_and_the_logs_unless_asked(deployed: Operated) -> None:
    removals = deployed.removals(with_logs=False)
    operations = [call.operation for removal in removals for call in removal.part.calls]

    deployed.remove(removals)

    assert operations == [
        "DeleteEventSourceMapping",
        "DeleteFunction",
        "DeleteFunction",
        "DeleteQueue",
        "DeleteSecret",
        *["DeleteRolePolicy", "DeleteRole"] * 2,
    ]
    assert deployed.client("secretsmanager").made("delete_secret") == [
        {"SecretId": "cqrsctl/prod/database", "RecoveryWindowInDays": 7}
    ]
    assert stream_arn(deployed)
    left = deployed.removals(with_logs=True)
    assert [call.operation for removal in left for call in removal.part.calls] == ["DeleteLogGroup"] * 2
    deployed.remove(left)
    assert deployed.removals(with_logs=True) == []


def test_the_roles_are_deleted_last(deployed: Operated) -> None:
    removals = deployed.removals(with_logs=True)

    operations = [call.operation for removal in removals for call in removal.part.calls]
    assert operations[-6:] == ["DeleteLogGroup"] * 2 + ["DeleteRolePolicy", "DeleteRole"] * 2


def test_the_role_of_a_function_in_a_vpc_outlives_it(deployed: Operated) -> None:
    options = Options(subnets=("subnet-1",), security_groups=("sg-1",))
    deployed.deploy(Which.PROJECTOR, options, ZIP, wait=True)
    role = f"{PROJECTOR}Role-eu-west-1"

    deployed.remove(deployed.removals(with_logs=False))

    assert any(note.startswith(f"Role {role} is kept") for note in deployed.notes)
    assert deployed.client("iam").get_role(RoleName=role)
    later = deployed.removals(with_logs=False)
    assert [removal.part.name for removal in later] == [f"role {role}"]
    deployed.remove(later)
    assert deployed.removals(with_logs=False) == []


def test_a_deployment_waits_until_a_deleted_mapping_and_queue_are_gone(deployed: Operated) -> None:
    deployed.remove(deployed.removals(with_logs=False))
    deployed.states.refused.clear()

    found = changes(deployed.deploy(Which.PROJECTOR, Options(), ZIP, wait=False))

    assert (found["mapping of ProductHandlerFunction"], found[f"queue {QUEUE.rpartition(':')[2]}"]) == ("created",) * 2
    assert "mapping Deleting" in deployed.notes
    assert deployed.states.refused["AWS.SimpleQueueService.QueueDeletedRecently"] == 2
    assert "ResourceConflictException" not in deployed.states.refused, "a mapping that is being deleted is in the way"


def test_a_queue_that_holds_messages_is_kept_and_said(deployed: Operated) -> None:
    url = deployed.client("sqs").get_queue_url(QueueName=QUEUE.rsplit(":", maxsplit=1)[-1])["QueueUrl"]
    deployed.client("sqs").send_message(QueueUrl=url, MessageBody="batch")

    deployed.remove(deployed.removals(with_logs=False))

    assert any("-failures is kept: 1 of its messages" in line for line in deployed.notes)
    assert deployed.client("sqs").made("delete_queue") == []


def test_a_secret_that_was_deleted_is_had_back_by_the_next_deployment(deployed: Operated) -> None:
    before = secret_arn(deployed)
    deployed.remove(deployed.removals(with_logs=False))

    found = changes(deployed.deploy(Which.PROJECTOR, Options(), ZIP, wait=True))

    assert found["secret cqrsctl/prod/database"] == "restored"
    assert secret_arn(deployed) == before
    assert "DeletedDate" not in deployed.client("secretsmanager").describe_secret(SecretId="cqrsctl/prod/database")


def test_log_lines_come_once_each_also_late_ones_and_over_many_pages(deployed: Operated) -> None:
    start = int(NOW.timestamp() * 1_000)

    def event(name: str, offset: int) -> dict[str, Any]:
        return {"eventId": name, "timestamp": start + offset, "message": f"{name}\n", "logStreamName": "s"}

    looks: dict[int, list[dict[str, Any]]] = {
        0: [event("b", 2_000), event("a", 1_000)],
        1: [event("a", 1_000), event("late", 1_500), event("b", 2_000), event("c", 90_000)],
        2: [event("c", 90_000), event("d", 91_000)],
    }
    asked: dict[int, list[dict[str, Any]]] = defaultdict(list)
    look = [0]

    def filtered(_: Any, **parameters: Any) -> Any:
        asked[look[0]].append(parameters)
        if "nextToken" not in parameters:
            return {"events": [], "nextToken": "more"}
        look[0] += 1
        return {"events": looks[look[0] - 1]}

    deployed.client("logs").instead["filter_log_events"] = filtered
    lines = deployed.logs(Which.PROJECTOR, NOW, follow=True)

    found = [next(lines) for _ in range(5)]

    assert [line.message for line in found] == ["a", "b", "late", "c", "d"]
    assert found[0].at == NOW + timedelta(seconds=1)
    group = "/aws/lambda/ProductHandlerFunction"
    assert asked[0][0] == {"logGroupName": group, "startTime": start}
    assert asked[2][0] == {"logGroupName": group, "startTime": start + 30_000}
    assert isinstance(deployed.clock, Clock)
    assert deployed.clock.slept[-2:] == [2.0, 2.0]


def test_log_lines_of_an_endpoint_without_ids_come_once_each_too(deployed: Operated) -> None:
    start = int(NOW.timestamp() * 1_000)
    messages: list[str] = []

    def filtered(_: Any, **parameters: Any) -> Any:
        messages.append(f"line {len(messages)}")
        return {"events": [{"timestamp": start, "message": message, "logStreamName": "s"} for message in messages]}

    deployed.client("logs").instead["filter_log_events"] = filtered
    lines = deployed.logs(Which.COMMAND, NOW, follow=True)

    assert [next(lines).message for _ in range(3)] == ["line 0", "line 1", "line 2"]
