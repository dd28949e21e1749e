"""The Lambda functions without Lambda: settings, logins, events, commands, and the line of an invocation."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from botocore.stub import Stubber

from cqrsctl.change import Event, Value
from cqrsctl.errors import AwsError, ConfigurationError, CqrsctlError, TransientAwsError
from cqrsctl.functions import declarations, handlers, settings
from cqrsctl.functions.command import CommandFunction, InvalidCommand
from cqrsctl.functions.events import EventRefused, changes_of
from cqrsctl.functions.logins import SecretLogin, TokenLogin
from cqrsctl.functions.telemetry import Done, Telemetry
from cqrsctl.projection.declaration import declaration_of
from cqrsctl.projection.definition import Column, ColumnType, Projection, default_product
from cqrsctl.write_model.product import InvalidProduct
from cqrsctl.write_model.products import ConditionFailed

GOLDEN = Path(__file__).parents[1] / "golden"
NOW = datetime(2024, 3, 1, 10, 6, 0, 500_000, UTC)
VARIABLES = {
    "CQRSCTL_DATABASE_HOST": "writer.example",
    "CQRSCTL_DATABASE_NAME": "cqrs",
    "CQRSCTL_DATABASE_SECRET": "arn:aws:secretsmanager:eu-west-1:1:secret:x",
}


@dataclass
class Context:
    """What Lambda tells of an invocation."""

    function_name: str = "ProductHandlerFunction"
    aws_request_id: str = "11111111-2222-3333-4444-555555555555"


def golden() -> dict[str, Any]:
    event: dict[str, Any] = json.loads((GOLDEN / "lambda_event.json").read_text(encoding="utf-8"))
    return event


def client(service: str) -> Any:
    return boto3.client(
        service, region_name="eu-west-1", aws_access_key_id="key", aws_secret_access_key="never-to-be-seen"
    )


class TestSettings:
    def test_a_database_with_a_secret(self) -> None:
        found = settings.database(VARIABLES)
        assert found == settings.Database(
            "writer.example", 3306, "cqrs", None, VARIABLES["CQRSCTL_DATABASE_SECRET"], iam_auth=False
        )

    def test_iam_takes_no_secret_and_needs_a_user(self) -> None:
        found = settings.database(
            {**VARIABLES, "CQRSCTL_DATABASE_IAM_AUTH": "true", "CQRSCTL_DATABASE_USER": "projector"}
        )
        assert (found.iam_auth, found.secret, found.user) == (True, None, "projector")
        with pytest.raises(ConfigurationError, match="lacks the variable CQRSCTL_DATABASE_USER"):
            settings.database({**VARIABLES, "CQRSCTL_DATABASE_IAM_AUTH": "true"})

    @pytest.mark.parametrize("name", list(VARIABLES))
    @pytest.mark.parametrize("value", [None, ""])
    def test_a_variable_that_is_missing_or_empty_is_named(self, name: str, value: str | None) -> None:
        variables = {key: text for key, text in VARIABLES.items() if key != name}
        if value is not None:
            variables[name] = value
        with pytest.raises(ConfigurationError, match=f"lacks the variable {name}"):
            settings.database(variables)

    @pytest.mark.parametrize("port", ["0", "65536", "-1", "x", "³"])
    def test_a_port_that_is_none_is_refused(self, port: str) -> None:
        with pytest.raises(ConfigurationError, match="CQRSCTL_DATABASE_PORT"):
            settings.database({**VARIABLES, "CQRSCTL_DATABASE_PORT": port})

    def test_a_switch_is_true_or_false(self) -> None:
        with pytest.raises(ConfigurationError, match="neither true nor false"):
            settings.database({**VARIABLES, "CQRSCTL_DATABASE_IAM_AUTH": "perhaps"})

    def test_the_table_is_needed(self) -> None:
        assert settings.table({"CQRSCTL_TABLE": "Products"}) == "Products"
        with pytest.raises(ConfigurationError, match="CQRSCTL_TABLE"):
            settings.table({})

    def test_files_beside_the_code(self, tmp_path: Path) -> None:
        assert settings.ca_bundle(tmp_path) is None
        with pytest.raises(ConfigurationError, match=r"declarations\.json cannot be read"):
            settings.projections(tmp_path)
        (tmp_path / "ca-bundle.pem").touch()
        (tmp_path / "declarations.json").write_text(declarations.to_json([default_product()]))
        assert settings.ca_bundle(tmp_path) == tmp_path / "ca-bundle.pem"
        assert settings.projections(tmp_path) == (default_product(),)


DEFAULTS: list[tuple[str, bool | int | str | None]] = [
    ("bigint", 7),
    ("decimal(18,4)", "19.90"),
    ("varchar(9)", "False"),
    ("varchar(9)", ""),
    ("text", "12"),
    ("boolean", False),
    ("double", "0.1"),
    ("datetime", "20240101"),
    ("datetime", 20240101),
    ("json", True),
    ("json", "True"),
    ("json", 1),
    ("json", "1"),
    ("varbinary(4)", None),
]


class TestDeclarations:
    @pytest.mark.parametrize(("kind", "default"), DEFAULTS)
    def test_a_projection_comes_back_as_it_was(self, kind: str, default: bool | int | str | None) -> None:
        parsed = ColumnType.parse(kind)
        value: Value = parsed.default(default)
        projection = Projection(
            "thing",
            "Thing",
            (
                Column("Id", ColumnType.parse("varchar(40)"), "Id", key=True, required=True),
                Column("It", parsed, "a.b", default=value, index=kind not in {"text", "json"}),
            ),
        )
        (back,) = declarations.from_json(declarations.to_json([projection]))
        assert back == projection
        assert declaration_of(back) == declaration_of(projection)
        assert type(back.columns[1].default) is type(value)

    def test_several_keep_their_order(self) -> None:
        other = Projection("other", "Other", default_product().columns)
        assert declarations.from_json(declarations.to_json([other, default_product()])) == (other, default_product())

    @pytest.mark.parametrize(
        "text", ["", "{}x", "[1]", '[{"name": "a"}]', '[{"name": "A", "view": "V", "columns": []}]']
    )
    def test_another_file_is_refused(self, text: str) -> None:
        with pytest.raises(ConfigurationError, match=r"declarations\.json"):
            declarations.from_json(text)


class TestLogins:
    def secret(self, user: str | None = None, **answer: Any) -> tuple[SecretLogin, Stubber]:
        secrets = client("secretsmanager")
        stub = Stubber(secrets)
        stub.add_response("get_secret_value", answer, {"SecretId": "the-secret"})
        stub.activate()
        return SecretLogin(secrets, "the-secret", user), stub

    def test_a_secret_is_fetched_once_and_again_when_it_was_refused(self) -> None:
        login, stub = self.secret(SecretString='{"username": "cqrs", "password": "old"}')
        assert [login().password, login().password] == ["old", "old"]
        stub.add_response("get_secret_value", {"SecretString": '{"username": "cqrs", "password": "new"}'})
        login.forget()
        assert (login().user, login().password) == ("cqrs", "new")
        stub.assert_no_pending_responses()

    def test_a_user_that_is_set_wins(self) -> None:
        login, _ = self.secret("projector", SecretString='{"username": "admin", "password": "p"}')
        assert login().user == "projector"

    @pytest.mark.parametrize(
        "content",
        ["hush", "[1]", "null", '{"username": "hush"}', '{"password": "hush"}', '{"username": "u", "password": 1}'],
    )
    def test_a_secret_that_is_none_of_a_database_is_refused_without_telling_it(self, content: str) -> None:
        login, _ = self.secret(SecretString=content)
        with pytest.raises(CqrsctlError, match="the-secret is not JSON") as raised:
            login()
        assert "hush" not in f"{raised.value} {raised.value.hint} {raised.value.__cause__}"

    def test_a_binary_secret_is_refused(self) -> None:
        login, _ = self.secret(SecretBinary=b"x")
        with pytest.raises(CqrsctlError, match="is not JSON"):
            login()

    def test_a_token_is_made_for_each_connection(self) -> None:
        database = settings.Database("writer.example", 3307, "cqrs", "projector", None, iam_auth=True)
        login = TokenLogin(client("rds"), database)
        login.forget()
        made = login()
        assert made.user == "projector"
        assert made.password.startswith("writer.example:3307/?Action=connect&DBUser=projector")
        assert "never-to-be-seen" not in made.password


class TestEvents:
    def test_the_golden_event_is_decoded(self) -> None:
        modified, removed = changes_of(golden(), "Products")
        assert (modified.event, removed.event) == (Event.MODIFY, Event.REMOVE)
        assert modified.new_image is not None
        assert modified.new_image["Thumbnail"] == b"\x00\x01\xfe\xff"

    @pytest.mark.parametrize("event", [{}, {"Records": []}])
    def test_an_empty_event_has_no_changes(self, event: Any) -> None:
        assert changes_of(event, "Products") == ()

    @pytest.mark.parametrize("event", [None, [], "text", {"key1": "value1"}, {"Records": None}, {"Records": [1]}])
    def test_what_is_no_event_of_a_stream_is_refused(self, event: Any) -> None:
        with pytest.raises(EventRefused, match="not one of DynamoDB Streams"):
            changes_of(event, "Products")

    @pytest.mark.parametrize("source", ["aws:kinesis", "aws:sqs", None])
    def test_one_record_of_another_source_refuses_the_event(self, source: str | None) -> None:
        event = golden()
        event["Records"][1]["eventSource"] = source
        with pytest.raises(EventRefused, match=f"comes from {source}, not from aws:dynamodb"):
            changes_of(event, "Products")

    def test_one_record_of_another_table_refuses_the_event(self) -> None:
        event = golden()
        arn = event["Records"][1]["eventSourceARN"]
        event["Records"][1]["eventSourceARN"] = arn.replace("table/Products", "table/Products2")
        with pytest.raises(EventRefused, match="is of table 'Products2'; this function projects 'Products'"):
            changes_of(event, "Products")

    @pytest.mark.parametrize("arn", [None, "", "arn:aws:dynamodb:r:1:table/Products", "a:table/Products/stream/soon"])
    def test_a_record_that_names_no_stream_refuses_the_event(self, arn: str | None) -> None:
        event = golden()
        event["Records"][0]["eventSourceARN"] = arn
        with pytest.raises(EventRefused, match="does not name its stream"):
            changes_of(event, "Products")

    @pytest.mark.parametrize("view_type", ["KEYS_ONLY", "OLD_IMAGE"])
    def test_a_stream_without_new_images_is_refused(self, view_type: str) -> None:
        event = golden()
        event["Records"][1]["dynamodb"]["StreamViewType"] = view_type
        with pytest.raises(EventRefused, match=f"no new images .view type {view_type}"):
            changes_of(event, "Products")

    @pytest.mark.parametrize(
        ("name", "value"),
        [("dynamodb", None), ("dynamodb", "text"), ("eventName", "UPSERT")],
    )
    def test_a_record_that_cannot_be_decoded_refuses_the_event(self, name: str, value: Any) -> None:
        event = golden()
        event["Records"][1][name] = value
        with pytest.raises(EventRefused, match="cannot be decoded"):
            changes_of(event, "Products")


@dataclass
class FakeDynamoDb:
    """Answers PutItem with what the test says, and remembers what it was asked."""

    old: dict[str, Any] | None = None
    error: Exception | None = None
    asked: list[dict[str, Any]] = field(default_factory=list)

    def put_item(self, **parameters: Any) -> dict[str, Any]:
        self.asked.append(parameters)
        if self.error:
            raise self.error
        return {} if self.old is None else {"Attributes": self.old}


def refusal(code: str, status: int = 400) -> ClientError:
    return ClientError(
        {"Error": {"Code": code, "Message": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "PutItem"
    )


LAMP = {"ProductId": 42, "Name": "Lámp", "Price": "19.90", "OutOfStock": False}
ITEM = {
    "ProductId": {"N": "42"},
    "Name": {"S": "Lámp"},
    "Price": {"N": "19.90"},
    "OutOfStock": {"BOOL": False},
}
FAILED = "ConditionalCheckFailedException"


class TestDirectCommands:
    def invoke(self, event: Any, dynamodb: FakeDynamoDb | None = None) -> dict[str, Any]:
        return CommandFunction("Products", dynamodb or FakeDynamoDb())(event).answer

    def test_a_product_is_put_and_its_fields_answered(self) -> None:
        dynamodb = FakeDynamoDb()
        assert self.invoke(LAMP, dynamodb) == {**LAMP, "outcome": "created"}
        assert dynamodb.asked == [{"TableName": "Products", "Item": ITEM, "ReturnValues": "ALL_OLD"}]

    @pytest.mark.parametrize(
        ("old", "outcome"), [(ITEM, "unchanged"), ({**ITEM, "Price": {"N": "1"}}, "replaced"), (None, "created")]
    )
    def test_the_outcome_tells_what_was_there(self, old: dict[str, Any] | None, outcome: str) -> None:
        assert self.invoke(LAMP, FakeDynamoDb(old))["outcome"] == outcome

    @pytest.mark.parametrize(
        ("price", "text"), [(19.9, "19.9"), (0.1, "0.1"), (20, "20"), (1e13, "10000000000000.0"), ("1e2", "100")]
    )
    def test_a_number_is_taken_by_its_shortest_text(self, price: float | str, text: str) -> None:
        dynamodb = FakeDynamoDb()
        assert self.invoke({**LAMP, "Price": price}, dynamodb)["Price"] == text
        assert dynamodb.asked[0]["Item"]["Price"] == {"N": text}

    @pytest.mark.parametrize(
        ("existence", "condition"),
        [("absent", "attribute_not_exists(ProductId)"), ("exists", "attribute_exists(ProductId)"), ("any", None)],
    )
    def test_existence_makes_the_condition(self, existence: str, condition: str | None) -> None:
        dynamodb = FakeDynamoDb()
        event = {**LAMP, "existence": existence}
        assert self.invoke(event, dynamodb) == {**LAMP, "outcome": "created"}
        assert dynamodb.asked[0].get("ConditionExpression") == condition
        assert event["existence"] == existence

    def test_a_failed_condition_is_raised(self) -> None:
        with pytest.raises(ConditionFailed, match="Product 42 exists already"):
            self.invoke({**LAMP, "existence": "absent"}, FakeDynamoDb(error=refusal(FAILED)))

    @pytest.mark.parametrize("event", [None, [], "text", 1])
    def test_an_event_that_is_no_object_is_refused(self, event: Any) -> None:
        with pytest.raises(InvalidCommand, match="JSON object"):
            self.invoke(event)

    @pytest.mark.parametrize("existence", ["never", None, 1, ["any"]])
    def test_another_existence_is_refused(self, existence: Any) -> None:
        with pytest.raises(InvalidCommand, match="none of any, absent, exists"):
            self.invoke({**LAMP, "existence": existence})

    @pytest.mark.parametrize(
        "wrong",
        [
            {"ProductId": -1},
            {"ProductId": True},
            {"Name": ""},
            {"Name": 1.5},
            {"Price": 19.900000000000002},
            {"Price": float("nan")},
            {"Price": -1},
            {"OutOfStock": "maybe"},
            {"Colour": "red"},
        ],
    )
    def test_an_invalid_product_is_raised_and_nothing_is_put(self, wrong: dict[str, Any]) -> None:
        dynamodb = FakeDynamoDb()
        with pytest.raises(InvalidProduct):
            self.invoke({**LAMP, **wrong}, dynamodb)
        assert dynamodb.asked == []


def rest(body: Any, **headers: str) -> dict[str, Any]:
    """A proxy event of a REST API (payload version 1)."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return {
        "resource": "/products",
        "path": "/products",
        "httpMethod": "PUT",
        "headers": named or None,
        "multiValueHeaders": None,
        "requestContext": {"httpMethod": "PUT", "stage": "prod"},
        "body": body,
        "isBase64Encoded": False,
    }


def http(body: str, **headers: str) -> dict[str, Any]:
    """A proxy event of an HTTP API (payload version 2), with its body as base64."""
    return {
        "version": "2.0",
        "routeKey": "PUT /products",
        "headers": {name.replace("_", "-").lower(): value for name, value in headers.items()},
        "requestContext": {"http": {"method": "PUT", "path": "/products"}, "stage": "$default"},
        "body": base64.b64encode(body.encode()).decode(),
        "isBase64Encoded": True,
    }


def by(event: dict[str, Any], method: str) -> dict[str, Any]:
    """The same event with another HTTP method."""
    text = json.dumps(event).replace('"PUT"', json.dumps(method))
    changed: dict[str, Any] = json.loads(text)
    return changed


class TestGatewayCommands:
    @pytest.mark.parametrize("method", ["DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "delete"])
    @pytest.mark.parametrize("event", [rest, http])
    def test_no_other_method_than_post_and_put_puts_a_product(self, event: Any, method: str) -> None:
        dynamodb = FakeDynamoDb()

        answer = CommandFunction("Products", dynamodb)(by(event(json.dumps(LAMP)), method)).answer

        assert (answer["statusCode"], answer["headers"]["Allow"]) == (405, "POST, PUT")
        assert json.loads(answer["body"])["hint"] == "Use POST or PUT."
        assert dynamodb.asked == []

    @pytest.mark.parametrize("event", [rest, http])
    def test_post_puts_a_product_and_so_does_a_request_without_a_method(self, event: Any) -> None:
        request = event(json.dumps(LAMP))

        assert self.invoke(by(request, "POST"))[0] == 200
        assert self.invoke({**request, "httpMethod": None, "requestContext": {}})[0] == 200

    def invoke(self, event: Any, dynamodb: FakeDynamoDb | None = None) -> tuple[int, dict[str, Any]]:
        answer = CommandFunction("Products", dynamodb or FakeDynamoDb())(event).answer
        assert set(answer) == {"statusCode", "headers", "body"}
        assert answer["headers"] == {"Content-Type": "application/json"}
        return answer["statusCode"], json.loads(answer["body"])

    @pytest.mark.parametrize("wrapped", [rest, http])
    def test_a_product_is_put(self, wrapped: Any) -> None:
        dynamodb = FakeDynamoDb()
        assert self.invoke(wrapped(json.dumps(LAMP)), dynamodb) == (200, {**LAMP, "outcome": "created"})
        assert dynamodb.asked[0]["Item"] == ITEM

    def test_a_number_in_the_body_keeps_its_digits(self) -> None:
        body = '{"ProductId": 42, "Name": "Lamp", "Price": 19.90}'
        assert self.invoke(rest(body))[1]["Price"] == "19.90"

    @pytest.mark.parametrize("wrapped", [rest, http])
    @pytest.mark.parametrize(
        ("headers", "condition"),
        [
            ({"If_None_Match": "*"}, "attribute_not_exists(ProductId)"),
            ({"IF_NONE_MATCH": " * "}, "attribute_not_exists(ProductId)"),
            ({"if_match": "*"}, "attribute_exists(ProductId)"),
            ({"Accept": "*/*"}, None),
        ],
    )
    def test_headers_make_the_condition(self, wrapped: Any, headers: dict[str, str], condition: str | None) -> None:
        dynamodb = FakeDynamoDb()
        assert self.invoke(wrapped(json.dumps(LAMP), **headers), dynamodb)[0] == 200
        assert dynamodb.asked[0].get("ConditionExpression") == condition

    @pytest.mark.parametrize(
        ("header", "message"), [("If-None-Match", "exists already"), ("If-Match", "does not exist")]
    )
    def test_a_failed_condition_is_a_conflict(self, header: str, message: str) -> None:
        dynamodb = FakeDynamoDb(error=refusal(FAILED))
        status, content = self.invoke(rest(json.dumps(LAMP), **{header: "*"}), dynamodb)
        assert (status, content["code"]) == (409, "condition_failed")
        assert content["message"] == f"Product 42 {message}; nothing was changed."

    @pytest.mark.parametrize(
        ("body", "code"),
        [
            (None, "invalid_command"),
            ("", "invalid_command"),
            ("{", "invalid_command"),
            ("[" * 100_000, "invalid_command"),
            ('{"Price": 1e9999999999999999999.0}', "invalid_command"),
            ('{"Price": 1.0e9999999999999999999}', "invalid_command"),
            ("[]", "invalid_command"),
            ('"text"', "invalid_command"),
            ({"ProductId": 1}, "invalid_command"),
            ("{}", "invalid_product"),
            (json.dumps({**LAMP, "Name": 1.5}).replace("1.5", "1.50"), "invalid_product"),
            (json.dumps({**LAMP, "Price": "19,90"}), "invalid_product"),
            (json.dumps({**LAMP, "Price": float("nan")}), "invalid_product"),
            (json.dumps({**LAMP, "Name": "\ud800"}), "invalid_product"),
            (json.dumps({**LAMP, "\ud800": 1}), "invalid_product"),
            (json.dumps({**LAMP, "existence": "absent"}), "invalid_product"),
        ],
    )
    def test_anything_wrong_in_the_body_is_a_bad_request(self, body: Any, code: str) -> None:
        dynamodb = FakeDynamoDb()
        status, content = self.invoke(rest(body), dynamodb)
        assert (status, content["code"]) == (400, code)
        assert content["message"]
        assert dynamodb.asked == []

    def test_a_body_that_is_no_base64_is_a_bad_request(self) -> None:
        assert self.invoke({**http("{}"), "body": "{}"})[0] == 400

    @pytest.mark.parametrize("headers", [{"If-Match": '"tag"'}, {"If-Match": "*", "If-None-Match": "*"}])
    def test_conditions_that_cannot_be_kept_are_a_bad_request(self, headers: dict[str, str]) -> None:
        assert self.invoke(rest(json.dumps(LAMP), **headers))[0] == 400

    @pytest.mark.parametrize("wrapped", [json.loads, rest, http])
    def test_what_is_transient_or_not_allowed_is_raised(self, wrapped: Any) -> None:
        event = wrapped(json.dumps(LAMP))
        with pytest.raises(TransientAwsError):
            self.invoke(event, FakeDynamoDb(error=refusal("ProvisionedThroughputExceededException")))
        with pytest.raises(AwsError, match="access denied"):
            self.invoke(event, FakeDynamoDb(error=refusal("AccessDeniedException")))


UNITS = {"Count", "Seconds", "Milliseconds"}


def assert_embedded_metrics(line: str) -> dict[str, Any]:
    """The specification's rules on a line: its targets exist at the root, with values of the right kind."""
    assert "\n" not in line
    root: dict[str, Any] = json.loads(line)
    assert set(root["_aws"]) == {"Timestamp", "CloudWatchMetrics"}
    assert isinstance(root["_aws"]["Timestamp"], int)
    (directive,) = root["_aws"]["CloudWatchMetrics"]
    assert set(directive) == {"Namespace", "Dimensions", "Metrics"}
    assert 1 <= len(directive["Namespace"]) <= 255
    for dimensions in directive["Dimensions"]:
        assert 1 <= len(dimensions) <= 30
        assert all(isinstance(root[name], str) and 1 <= len(root[name]) <= 1024 for name in dimensions)
    assert 1 <= len(directive["Metrics"]) <= 100
    for metric in directive["Metrics"]:
        assert set(metric) == {"Name", "Unit"}
        assert metric["Unit"] in UNITS
        assert isinstance(root[metric["Name"]], int | float)
        assert not isinstance(root[metric["Name"]], bool)
    return root


class TestTelemetry:
    def invoke(self, work: Any) -> tuple[dict[str, Any] | None, str]:
        lines: list[str] = []
        ticks = iter([10.0, 10.25])
        try:
            answer = Telemetry(lambda: NOW, lambda: next(ticks), lines.append).invoke(work, Context())
        except ZeroDivisionError:
            answer = None
        (line,) = lines
        return answer, line

    def test_an_invocation_is_one_line_of_embedded_metrics(self) -> None:
        measures = {"Records": 2, "Applied": 1, "Stale": 1, "DeadLettered": 0, "LagSeconds": 1.5}
        answer, line = self.invoke(lambda: Done({"the": "answer"}, measures, {"outcome": "created"}))
        root = assert_embedded_metrics(line)
        assert answer == {"the": "answer"}
        assert root["_aws"] == {
            "Timestamp": 1709287560500,
            "CloudWatchMetrics": [
                {
                    "Namespace": "cqrsctl",
                    "Dimensions": [["FunctionName"]],
                    "Metrics": [
                        {"Name": "Records", "Unit": "Count"},
                        {"Name": "Applied", "Unit": "Count"},
                        {"Name": "Stale", "Unit": "Count"},
                        {"Name": "DeadLettered", "Unit": "Count"},
                        {"Name": "LagSeconds", "Unit": "Seconds"},
                        {"Name": "Milliseconds", "Unit": "Milliseconds"},
                    ],
                }
            ],
        }
        del root["_aws"]
        assert root == {
            **measures,
            "Milliseconds": 250.0,
            "FunctionName": "ProductHandlerFunction",
            "requestId": Context.aws_request_id,
            "level": "INFO",
            "outcome": "created",
        }

    def test_an_error_is_a_line_with_its_code_and_is_raised(self) -> None:
        lines: list[str] = []

        def fail() -> Done:
            raise EventRefused("The event is odd.", hint="Look at it.")

        with pytest.raises(EventRefused):
            Telemetry(write=lines.append).invoke(fail, Context())
        assert [json.loads(line) for line in lines] == [
            {
                "level": "ERROR",
                "requestId": Context.aws_request_id,
                "FunctionName": "ProductHandlerFunction",
                "code": "event_refused",
                "errorType": "EventRefused",
                "message": "The event is odd.",
                "hint": "Look at it.",
            }
        ]

    def test_an_unforeseen_error_tells_its_class_only(self) -> None:
        answer, line = self.invoke(lambda: 1 / 0)
        content = json.loads(line)
        assert answer is None
        assert (content["code"], content["errorType"]) == ("unexpected", "ZeroDivisionError")
        assert "division" not in line


class TestEntryPoints:
    @pytest.fixture(autouse=True)
    def _fresh(self, monkeypatch: pytest.MonkeyPatch) -> Any:
        for name in (*VARIABLES, "CQRSCTL_TABLE", "AWS_ENDPOINT_URL"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-1")
        handlers.command_function.cache_clear()
        handlers.projector_function.cache_clear()
        yield
        handlers.command_function.cache_clear()
        handlers.projector_function.cache_clear()

    @pytest.mark.parametrize("entry", [handlers.command, handlers.projector])
    def test_a_setting_that_is_missing_is_told_and_raised(self, entry: Any, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(ConfigurationError, match="CQRSCTL_TABLE"):
            entry({}, Context())
        assert json.loads(capsys.readouterr().out)["code"] == "configuration"

    def test_the_functions_are_made_once_from_the_environment(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for name, value in {**VARIABLES, "CQRSCTL_TABLE": "Products"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(settings, "projections", lambda: (default_product(),))
        assert handlers.projector({"Records": []}, Context()) == {"batchItemFailures": []}
        root = assert_embedded_metrics(capsys.readouterr().out.rstrip("\n"))
        assert (root["Records"], root["Applied"]) == (0, 0)
        assert "LagSeconds" not in root
        made = handlers.projector_function()
        assert made is handlers.projector_function()
        assert str(made.endpoint) == "writer.example:3306/cqrs"
        assert isinstance(made.login, SecretLogin)
        assert made.connection is None

    def test_the_bundle_in_the_zip_verifies_the_database(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        for name, value in {**VARIABLES, "CQRSCTL_TABLE": "Products"}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(settings, "projections", lambda: (default_product(),))
        with pytest.raises(ConfigurationError, match=r"writer\.example is not this machine"):
            handlers.projector(golden(), Context())
        assert json.loads(capsys.readouterr().out)["code"] == "tls"
        handlers.projector_function.cache_clear()
        monkeypatch.setattr(settings, "ca_bundle", lambda: tmp_path / "ca-bundle.pem")
        assert handlers.projector_function().endpoint.ca_bundle == tmp_path / "ca-bundle.pem"

    def test_iam_makes_tokens(self, monkeypatch: pytest.MonkeyPatch) -> None:
        more = {"CQRSCTL_TABLE": "Products", "CQRSCTL_DATABASE_IAM_AUTH": "true", "CQRSCTL_DATABASE_USER": "projector"}
        for name, value in {**VARIABLES, **more}.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr(settings, "projections", lambda: (default_product(),))
        assert isinstance(handlers.projector_function().login, TokenLogin)

    def test_a_command_that_is_refused_is_one_line(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("CQRSCTL_TABLE", "Products")
        assert handlers.command(rest("{}"), Context("ProductCommandFunction"))["statusCode"] == 400
        root = assert_embedded_metrics(capsys.readouterr().out.rstrip("\n"))
        assert (root["Rejected"], root["status"], root["code"]) == (1, 400, "invalid_product")
        assert root["FunctionName"] == "ProductCommandFunction"
