"""The requests that IAM decides on when a call is made: its own, and those of what AWS does in turn for the caller.

The types of resources that an action has to be allowed on are AWS's own facts; here is which they are, by the call's
parameters.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tests.aws.policy_judge import Request, Unjudged, facts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from cqrsctl.aws import ApiCall
    from cqrsctl.functions.parts import Place

UUID = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0"
SUFFIX = "AbCdEf"
LABEL = "2024-03-01T10:00:00.000"
_PREFIXES = {"dynamodbstreams": "dynamodb"}
_ACTIONS = {"lambda:Invoke": "lambda:InvokeFunction", "s3:GetBucketEncryption": "s3:GetEncryptionConfiguration"}
_READS_AND_WRITES = {
    *("GetItem", "BatchGetItem", "Scan", "PutItem", "DeleteItem", "BatchWriteItem"),
    *("DescribeStream", "GetShardIterator", "GetRecords"),
}

Parameters = dict[str, Any]


@dataclass(frozen=True)
class World:
    """Where calls are made, of which table, and the KMS keys of what they are on, by the service that uses them."""

    place: Place
    table: str = "Products"
    keys: Mapping[str, str] = field(default_factory=dict)

    @property
    def stream(self) -> str:
        return self.place.arn("dynamodb", f"table/{self.table}/stream/{LABEL}")

    def own(self, call: ApiCall) -> Iterator[Request]:
        """The requests of the call itself: on each resource that its action is on, and of the keys of those."""
        prefix = _PREFIXES.get(call.service, call.service)
        name = f"{prefix}:{call.operation}"
        action = _ACTIONS.get(name, name)
        found = facts(action)
        types = found.required or frozenset(found.arns)
        if not types:
            yield Request(action, "*")
        for each in sorted(types | _ALSO.get(action, frozenset())):
            for arn in self.resources(prefix, each, call.parameters):
                yield Request(action, arn)
        if prefix == "dynamodb" and call.operation in _READS_AND_WRITES:
            yield from self.uses_key("dynamodb", "Decrypt")
        if action == "secretsmanager:GetSecretValue":
            yield from self.uses_key("secretsmanager", "Decrypt")

    def uses_key(self, service: str, *operations: str) -> Iterator[Request]:
        """The use of a key through a service; none if what is there has no key of its own."""
        key = self.keys.get(service)
        if key is not None:
            context = {"kms:ViaService": (f"{service}.{self.place.region}.amazonaws.com",)}
            yield from (Request(f"kms:{operation}", key, context) for operation in operations)

    def resources(self, prefix: str, kind: str, parameters: Parameters) -> list[str]:
        """The ARNs of one type that a call is on. Raises Unjudged for a type that is unknown here."""
        if f"{prefix}:{kind}" not in _RESOURCES:
            raise Unjudged(f"which {prefix}:{kind} a call with {parameters.keys()} is on")
        return _RESOURCES[f"{prefix}:{kind}"](self, parameters)


def _tables(world: World, of: Parameters) -> list[str]:
    if "ResourceArn" in of:
        return [of["ResourceArn"]]
    names = [of["TableName"]] if "TableName" in of else list(of["RequestItems"])
    return [world.place.arn("dynamodb", f"table/{name}") for name in names]


def _secrets(world: World, of: Parameters) -> list[str]:
    name = of.get("SecretId") or of["Name"]
    return [name if name.startswith("arn:") else world.place.arn("secretsmanager", f"secret:{name}-{SUFFIX}")]


_ALSO: dict[str, frozenset[str]] = {}
_RESOURCES: dict[str, Callable[[World, Parameters], list[str]]] = {
    "dynamodb:table": _tables,
    "dynamodb:stream": lambda world, of: [of.get("StreamArn", world.stream)],
    "secretsmanager:Secret": _secrets,
}
