"""An AWS that takes its time: a layer before moto, which does at once what AWS does in seconds or minutes.

Tables, clusters, instances, functions, mappings and roles are in between for a number of looks, and whoever changes
them meanwhile is refused as AWS refuses. A look is any call about the thing, also one that is refused.
"""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from functools import partial
from io import BytesIO
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from botocore import endpoint as endpoints
from botocore.awsrequest import AWSResponse
from botocore.client import BaseClient
from botocore.endpoint import Endpoint

from tests.aws import refusals

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from botocore.exceptions import ClientError

    from tests.aws.refusals import Refusal

    Parameters = dict[str, Any]
    Proceed = Callable[[], Any]

_UNKNOWN_TO_MOTO: dict[str, Any] = {
    "DescribeScalingActivities": {"ScalingActivities": []},
    "DescribePendingMaintenanceActions": {"PendingMaintenanceActions": []},
    "DescribeDBMajorEngineVersions": {"DBMajorEngineVersions": []},
}
_QUESTIONS = ("Describe", "Get", "List")
_NAMES_IT_ACCESS_DENIED = {"rds", "iam", "sqs", "cloudwatch"}
_DOING = {"CREATING": "created", "UPDATING": "updated", "DELETING": "deleted"}
_OF_ITEMS = {"PutItem", "GetItem", "UpdateItem", "DeleteItem", "Scan", "Query"}
_CLUSTER_CHANGES = {"ModifyDBCluster", "FailoverDBCluster"}
_FUNCTION_CHANGES = {
    "UpdateFunctionCode",
    "UpdateFunctionConfiguration",
    "PutFunctionConcurrency",
    "CreateEventSourceMapping",
    "Invoke",
}


@dataclass
class Passing:
    """What is under way with a thing; `gone` is how it was described before its deletion."""

    state: str
    looks: int
    gone: Any = None


@dataclass
class Call:
    """One call: the service, where, what, and how it is carried out."""

    service: str
    region: str
    operation: str
    parameters: Parameters
    proceed: Proceed

    def refused(self, refusal: Refusal, **about: str) -> ClientError:
        return refusal.error(self.operation, **about)


@dataclass
class States:
    """What is under way in all regions, and for how many looks."""

    looks: int = 2
    denials: int = 0
    """How often a question that a command asked is refused the next time, as if a server had not heard of the right."""
    refused: Counter[str] = field(default_factory=Counter)
    """How often which refusal was met, by its code."""
    done: list[str] = field(default_factory=list)
    """The operations that were carried out."""
    _passing: dict[tuple[str, ...], Passing] = field(default_factory=dict)
    _denied: Counter[str] = field(default_factory=Counter)
    """For each question that the running command has an answer to: how often it was refused since."""
    _lock: threading.RLock = field(default_factory=threading.RLock)

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """From now on every call of every client goes through here."""
        make = BaseClient._make_api_call

        def made(client: Any, operation: str, parameters: Parameters) -> Any:
            service, region = client.meta.service_model.service_name, client.meta.region_name
            proceed = partial(make, client, operation, parameters)
            return self.answer(Call(service, region, operation, parameters, proceed))

        patch.setattr(BaseClient, "_make_api_call", made)

    def throttle(self, patch: pytest.MonkeyPatch, every: int) -> None:
        """From now on one request of `every` is throttled; boto3 sends it again, without a pause."""
        send = Endpoint._get_response
        requests = itertools.count(1)

        def sent(endpoint: Any, request: Any, operation: Any, context: Any) -> Any:
            if next(requests) % every:
                return send(endpoint, request, operation, context)
            refusal = refusals.THROTTLED.get(operation.service_model.service_name, refusals.OTHER_THROTTLED)
            error = refusal.error(operation.name)
            self.refused[refusal.code] += 1
            return (AWSResponse(request.url, 400, {}, BytesIO()), error.response), None

        patch.setattr(Endpoint, "_get_response", sent)
        patch.setattr(endpoints, "time", SimpleNamespace(sleep=lambda _: None))

    def begin_command(self) -> None:
        """From now on it is another process that asks: nothing is refused to it that it did not get before."""
        self._denied.clear()

    def answer(self, call: Call) -> Any:
        """What AWS answers. Raises ClientError."""
        with self._lock:
            try:
                self._deny(call)
                if call.operation in _UNKNOWN_TO_MOTO:
                    return deepcopy(_UNKNOWN_TO_MOTO[call.operation])
                rule = _RULES.get(call.service)
                answer = rule(self, call) if rule else call.proceed()
            except Exception as error:
                self.refused[getattr(error, "response", {}).get("Error", {}).get("Code", type(error).__name__)] += 1
                raise
            self.done.append(call.operation)
            return answer

    def _deny(self, call: Call) -> None:
        """Raises ClientError for a question that was answered before, as often as `denials` says."""
        if not call.operation.startswith(_QUESTIONS):
            return
        question = f"{call.service} {call.region} {call.operation} {call.parameters}"
        if question in self._denied and self._denied[question] < self.denials:
            self._denied[question] += 1
            denied = refusals.DENIED
            if call.service not in _NAMES_IT_ACCESS_DENIED:
                denied = denied._replace(code="AccessDeniedException")
            raise call.refused(denied, action=f"{call.service}:{call.operation}")
        self._denied.setdefault(question, 0)

    def begin(self, state: str, *thing: str, looks: int | None = None, gone: Any = None) -> None:
        """From now on a thing is in a state, for some looks."""
        self._passing[thing] = Passing(state, self.looks if looks is None else looks, gone)

    def look(self, *thing: str) -> Passing | None:
        """What is under way with a thing; one look fewer is left of it."""
        found = self._passing.get(thing)
        if found is None:
            return None
        if found.looks == 0:
            del self._passing[thing]
            return None
        found.looks -= 1
        return found

    def peek(self, *thing: str) -> str | None:
        """The state that is under way, without looking."""
        found = self._passing.get(thing)
        return found.state if found and found.looks else None

    def of_kind(self, *kind: str) -> list[tuple[tuple[str, ...], Passing]]:
        """All things of a kind with what is under way with them."""
        return [(thing, passing) for thing, passing in self._passing.items() if thing[: len(kind)] == kind]


@contextmanager
def taking_its_time() -> Iterator[States]:
    """An AWS whose tables, clusters and functions are in between for some looks."""
    states = States()
    with pytest.MonkeyPatch.context() as patch:
        states.install(patch)
        yield states


# --- tables ------------------------------------------------------------------------------------------------------


def _dynamodb(states: States, call: Call) -> Any:
    name = call.parameters.get("TableName")
    if name is None or call.operation == "ListTagsOfResource":
        return call.proceed()
    thing = ("dynamodb", call.region, name)
    if call.operation == "UpdateContinuousBackups" and states.look(*thing, "backups"):
        raise call.refused(refusals.BACKUPS_NOT_READY, name=name)
    passing = states.look(*thing)
    state = passing.state if passing else None
    if call.operation == "DescribeTable":
        return _table_described(call, passing)
    if call.operation in _OF_ITEMS and state in {"CREATING", "DELETING"}:
        raise call.refused(refusals.TABLE_MISSING)
    if call.operation == "CreateTable":
        if state == "DELETING":
            raise call.refused(refusals.TABLE_EXISTS, name=name)
        made = call.proceed()
        states.begin("CREATING", *thing)
        states.begin("ENABLING", *thing, "backups")
        made["TableDescription"]["TableStatus"] = "CREATING"
        return made
    if call.operation in {"UpdateTable", "DeleteTable"}:
        if state:
            raise call.refused(refusals.TABLE_IN_USE, name=name, doing=_DOING[state])
        return _table_changed(states, call, thing)
    return call.proceed()


def _table_described(call: Call, passing: Passing | None) -> Any:
    if passing and passing.gone:
        return deepcopy(passing.gone)
    described = call.proceed()
    if passing:
        described["Table"]["TableStatus"] = passing.state
    return described


def _table_changed(states: States, call: Call, thing: tuple[str, ...]) -> Any:
    changed = call.proceed()
    if call.operation == "UpdateTable":
        states.begin("UPDATING", *thing)
        changed["TableDescription"]["TableStatus"] = "UPDATING"
    else:
        gone = {**changed["TableDescription"], "TableStatus": "DELETING"}
        states.begin("DELETING", *thing, gone={"Table": gone, "ResponseMetadata": changed["ResponseMetadata"]})
    return changed


# --- clusters and their members ----------------------------------------------------------------------------------


def _rds(states: States, call: Call) -> Any:
    rule = _RDS.get(call.operation)
    return rule(states, call) if rule else call.proceed()


def _create_cluster(states: States, call: Call) -> Any:
    name = call.parameters["DBClusterIdentifier"]
    if states.look("rds", call.region, "cluster", name):
        raise call.refused(refusals.CLUSTER_EXISTS)
    made = call.proceed()
    states.begin("creating", "rds", call.region, "cluster", name)
    made["DBCluster"]["Status"] = "creating"
    return made


def _change_cluster(states: States, call: Call) -> Any:
    name = call.parameters["DBClusterIdentifier"]
    if states.look("rds", call.region, "cluster", name):
        raise call.refused(refusals.CLUSTER_STATE, name=name)
    if call.operation == "FailoverDBCluster":
        _require_members_available(states, call)
    changed = call.proceed()
    state = "failing-over" if call.operation == "FailoverDBCluster" else "modifying"
    states.begin(state, "rds", call.region, "cluster", name)
    return changed


def _require_members_available(states: States, call: Call) -> None:
    target = call.parameters.get("TargetDBInstanceIdentifier")
    if target and (passing := states.look("rds", call.region, "instance", target)):
        raise call.refused(refusals.INSTANCE_STATE, name=target, state=passing.state)


def _delete_cluster(states: States, call: Call) -> Any:
    name = call.parameters["DBClusterIdentifier"]
    passing = states.look("rds", call.region, "cluster", name)
    if passing:
        raise call.refused(refusals.CLUSTER_STATE, name=name)
    deleted = call.proceed()
    leaving = [thing for thing, member in states.of_kind("rds", call.region, "instance") if member.gone]
    looks = states.looks + max((states._passing[thing].looks for thing in leaving), default=0)
    gone = {**deleted["DBCluster"], "Status": "deleting"}
    states.begin("deleting", "rds", call.region, "cluster", name, looks=looks, gone=gone)
    return deleted


def _describe_clusters(states: States, call: Call) -> Any:
    name = call.parameters.get("DBClusterIdentifier")
    passing = states.look("rds", call.region, "cluster", name) if name else None
    if passing and passing.gone:
        return {"DBClusters": [deepcopy(passing.gone)], "ResponseMetadata": {"HTTPHeaders": {}}}
    described = call.proceed()
    for cluster in described["DBClusters"]:
        if passing:
            cluster["Status"] = passing.state
        for thing, member in states.of_kind("rds", call.region, "instance"):
            if member.gone and member.gone["DBClusterIdentifier"] == cluster["DBClusterIdentifier"]:
                cluster["DBClusterMembers"].append(
                    {"DBInstanceIdentifier": thing[-1], "IsClusterWriter": False, "PromotionTier": 1}
                )
    return described


def _create_instance(states: States, call: Call) -> Any:
    name = call.parameters["DBInstanceIdentifier"]
    if states.look("rds", call.region, "instance", name):
        raise call.refused(refusals.INSTANCE_EXISTS)
    made = call.proceed()
    states.begin("creating", "rds", call.region, "instance", name)
    made["DBInstance"]["DBInstanceStatus"] = "creating"
    return made


def _delete_instance(states: States, call: Call) -> Any:
    name = call.parameters["DBInstanceIdentifier"]
    passing = states.look("rds", call.region, "instance", name)
    if passing and passing.state == "deleting":
        raise call.refused(refusals.INSTANCE_DELETED, name=name)
    deleted = call.proceed()
    gone = {**deleted["DBInstance"], "DBInstanceStatus": "deleting"}
    states.begin("deleting", "rds", call.region, "instance", name, gone=gone)
    return deleted


def _describe_instances(states: States, call: Call) -> Any:
    named = call.parameters.get("DBInstanceIdentifier")
    if named:
        passing = states.look("rds", call.region, "instance", named)
        if passing and passing.gone:
            return {"DBInstances": [deepcopy(passing.gone)], "ResponseMetadata": {"HTTPHeaders": {}}}
        described = call.proceed()
        if passing:
            described["DBInstances"][0]["DBInstanceStatus"] = passing.state
        return described
    described = call.proceed()
    by_name = {instance["DBInstanceIdentifier"]: instance for instance in described["DBInstances"]}
    clusters = [value for each in call.parameters.get("Filters", ()) for value in each["Values"]]
    for thing, _ in states.of_kind("rds", call.region, "instance"):
        passing = states.look(*thing)
        if passing is None:
            continue
        if passing.gone and passing.gone["DBClusterIdentifier"] in clusters:
            described["DBInstances"].append(deepcopy(passing.gone))
        elif thing[-1] in by_name:
            by_name[thing[-1]]["DBInstanceStatus"] = passing.state
    return described


_RDS: dict[str, Callable[[States, Call], Any]] = {
    "CreateDBCluster": _create_cluster,
    **dict.fromkeys(_CLUSTER_CHANGES, _change_cluster),
    "DeleteDBCluster": _delete_cluster,
    "DescribeDBClusters": _describe_clusters,
    "CreateDBInstance": _create_instance,
    "DeleteDBInstance": _delete_instance,
    "DescribeDBInstances": _describe_instances,
}


# --- roles, functions and mappings -------------------------------------------------------------------------------


def _iam(states: States, call: Call) -> Any:
    """Roles are global: what Lambda does not know yet, it does not know in any region."""
    done = call.proceed()
    if call.operation == "CreateRole":
        states.begin("new", "iam", "role", call.parameters["RoleName"])
    elif call.operation == "PutRolePolicy":
        states.begin("new", "iam", "policy", call.parameters["RoleName"])
    return done


def _lambda(states: States, call: Call) -> Any:
    if "EventSourceMapping" in call.operation:
        return _of_mapping(states, call)
    name = call.parameters.get("FunctionName")
    if name is None:
        return call.proceed()
    thing = ("lambda", call.region, name)
    if call.operation == "CreateFunction":
        _require_known_role(states, call)
        made = call.proceed()
        states.begin("Pending", *thing)
        made["State"] = "Pending"
        return made
    passing = states.look(*thing)
    if call.operation in _FUNCTION_CHANGES:
        _require_idle(call, name, passing)
        if call.operation == "UpdateFunctionConfiguration":
            _require_known_role(states, call)
    answer = call.proceed()
    if call.operation.startswith("Update"):
        states.begin("InProgress", *thing)
        answer["LastUpdateStatus"] = "InProgress"
    elif call.operation == "GetFunction" and passing:
        answer["Configuration"]["State" if passing.state == "Pending" else "LastUpdateStatus"] = passing.state
    return answer


def _require_known_role(states: States, call: Call) -> None:
    role = call.parameters.get("Role", "").rpartition("/")[2]
    if states.look("iam", "role", role):
        raise call.refused(refusals.ROLE_UNKNOWN)


def _require_idle(call: Call, name: str, passing: Passing | None) -> None:
    if passing is None:
        return
    if passing.state == "Pending":
        raise call.refused(refusals.FUNCTION_PENDING)
    if call.operation.startswith(("Update", "Put")):
        raise call.refused(refusals.FUNCTION_UPDATING, name=name)


def _of_mapping(states: States, call: Call) -> Any:
    rule = {
        "CreateEventSourceMapping": _create_mapping,
        "UpdateEventSourceMapping": _change_mapping,
        "DeleteEventSourceMapping": _change_mapping,
        "ListEventSourceMappings": _list_mappings,
    }[call.operation]
    return rule(states, call)


def _create_mapping(states: States, call: Call) -> Any:
    function, stream = call.parameters["FunctionName"], call.parameters["EventSourceArn"]
    _require_idle(call, function, states.look("lambda", call.region, function))
    for thing, passing in states.of_kind("mapping", call.region):
        gone = passing.gone
        same = gone and gone["EventSourceArn"] == stream and gone["FunctionArn"].endswith(f":{function}")
        if same and states.look(*thing):
            raise call.refused(refusals.MAPPING_EXISTS, stream=stream, function=function, name=thing[-1])
    for thing, _ in states.of_kind("iam", "policy"):
        if thing[-1].startswith(function) and states.look(*thing):
            raise call.refused(refusals.POLICY_UNKNOWN, stream=stream)
    made = call.proceed()
    states.begin("Creating", "mapping", call.region, made["UUID"])
    made["State"] = "Creating"
    return made


def _change_mapping(states: States, call: Call) -> Any:
    uuid = call.parameters["UUID"]
    if states.look("mapping", call.region, uuid):
        raise call.refused(refusals.MAPPING_IN_USE)
    changed = call.proceed()
    if call.operation.startswith("Delete"):
        states.begin("Deleting", "mapping", call.region, uuid, gone={**changed, "State": "Deleting"})
        return changed
    enabled = call.parameters.get("Enabled")
    state = "Updating" if enabled is None else "Enabling" if enabled else "Disabling"
    states.begin(state, "mapping", call.region, uuid)
    changed["State"] = state
    return changed


def _list_mappings(states: States, call: Call) -> Any:
    listed = call.proceed()
    by_uuid = {mapping["UUID"]: mapping for mapping in listed["EventSourceMappings"]}
    function, stream = call.parameters.get("FunctionName"), call.parameters.get("EventSourceArn")
    for thing, _ in states.of_kind("mapping", call.region):
        passing = states.look(*thing)
        if passing is None:
            continue
        if gone := passing.gone:
            asked = function is None or gone["FunctionArn"].endswith(f":{function}")
            if asked and stream in {None, gone["EventSourceArn"]}:
                listed["EventSourceMappings"].append(deepcopy(gone))
        elif thing[-1] in by_uuid:
            by_uuid[thing[-1]]["State"] = passing.state
    return listed


# --- the rest ----------------------------------------------------------------------------------------------------


def _sqs(states: States, call: Call) -> Any:
    if call.operation == "CreateQueue" and states.look("sqs", call.region, call.parameters["QueueName"]):
        raise call.refused(refusals.QUEUE_JUST_DELETED)
    done = call.proceed()
    if call.operation == "DeleteQueue":
        states.begin("deleted", "sqs", call.region, call.parameters["QueueUrl"].rpartition("/")[2])
    return done


def _in_turn(refusal: Refusal, name: str, looks: tuple[str, ...]) -> Callable[[States, Call], Any]:
    """Changes of one thing one after the other: the next one right after the last is refused."""

    def rule(states: States, call: Call) -> Any:
        if call.operation.startswith(looks):
            return call.proceed()
        thing = (call.service, call.region, str(call.parameters.get(name)))
        if states.look(*thing):
            raise call.refused(refusal)
        done = call.proceed()
        states.begin("changing", *thing, looks=1)
        return done

    return rule


_RULES: dict[str, Callable[[States, Call], Any]] = {
    "dynamodb": _dynamodb,
    "rds": _rds,
    "iam": _iam,
    "lambda": _lambda,
    "sqs": _sqs,
    "application-autoscaling": _in_turn(refusals.SCALING_PENDING, "ResourceId", ("Describe",)),
    "logs": _in_turn(refusals.LOGS_PENDING, "logGroupName", ("Describe", "Filter", "List")),
}
