"""What AWS answers while something is under way: codes and texts as users and references have them, with the source."""

from __future__ import annotations

from typing import NamedTuple

from botocore.exceptions import ClientError


class Refusal(NamedTuple):
    """A refusal by its code and text. `source` says who has seen it."""

    code: str
    text: str
    source: str

    def error(self, operation: str, **about: str) -> ClientError:
        content = {"Error": {"Code": self.code, "Message": self.text.format(**about)}}
        return ClientError({**content, "ResponseMetadata": {"HTTPStatusCode": 400}}, operation)


TABLE_IN_USE = Refusal(
    "ResourceInUseException",
    "Attempt to change a resource which is still in use: Table is being {doing}: {name}",
    "Amazon DynamoDB API, DeleteTable and UpdateTable: ResourceInUseException",
)
TABLE_EXISTS = Refusal(
    "ResourceInUseException", "Table already exists: {name}", "Amazon DynamoDB API, CreateTable: ResourceInUseException"
)
TABLE_MISSING = Refusal(
    "ResourceNotFoundException",
    "Requested resource not found",
    "Amazon DynamoDB API, PutItem: the table's status might not be ACTIVE",
)
BACKUPS_NOT_READY = Refusal(
    "ContinuousBackupsUnavailableException",
    "Backups are being enabled for the table: {name}. Please retry later",
    "https://github.com/aws-amplify/amplify-backend/issues/1654",
)
CLUSTER_STATE = Refusal(
    "InvalidDBClusterStateFault",
    "DBCluster {name} is not in available state.",
    "Amazon RDS API, FailoverDBCluster, ModifyDBCluster: InvalidDBClusterStateFault",
)
CLUSTER_NOT_EMPTY = Refusal(
    "InvalidDBClusterStateFault",
    "Cluster cannot be deleted, it still contains DB instances in non-deleting state.",
    "https://github.com/aws-controllers-k8s/community/issues/1151",
)
CLUSTER_EXISTS = Refusal(
    "DBClusterAlreadyExistsFault", "DB Cluster already exists", "Amazon RDS API, CreateDBCluster: common errors"
)
INSTANCE_EXISTS = Refusal(
    "DBInstanceAlreadyExists", "DB Instance already exists", "Amazon RDS API, CreateDBInstance: common errors"
)
INSTANCE_DELETED = Refusal(
    "InvalidDBInstanceState",
    "Instance {name} is already being deleted.",
    "https://github.com/hashicorp/terraform-provider-aws/issues/5622",
)
INSTANCE_STATE = Refusal(
    "InvalidDBInstanceState",
    "Instance {name} is not in a valid state: {state}.",
    "Amazon RDS API, FailoverDBCluster, DeleteDBInstance: InvalidDBInstanceState",
)
ROLE_UNKNOWN = Refusal(
    "InvalidParameterValueException",
    "The role defined for the function cannot be assumed by Lambda.",
    "https://github.com/apex/up/issues/189",
)
POLICY_UNKNOWN = Refusal(
    "InvalidParameterValueException",
    "Cannot access stream {stream}. Please ensure the role can perform the GetRecords, GetShardIterator, "
    "DescribeStream, and ListStreams Actions on your stream in IAM.",
    "https://github.com/aws-samples/lambda-refarch-webapp/issues/7",
)
FUNCTION_PENDING = Refusal(
    "ResourceConflictException",
    "The operation cannot be performed at this time. The function is currently in the following state: Pending",
    "https://github.com/remotion-dev/remotion/issues/1186",
)
FUNCTION_UPDATING = Refusal(
    "ResourceConflictException",
    "The operation cannot be performed at this time. An update is in progress for resource: {name}",
    "https://github.com/cloud-custodian/cloud-custodian/issues/7010",
)
MAPPING_EXISTS = Refusal(
    "ResourceConflictException",
    'The event source arn (" {stream} ") and function (" {function} ") provided mapping already exists. '
    "Please update or delete the existing mapping with UUID {name}",
    "https://github.com/aws/serverless-application-model/issues/2011",
)
MAPPING_IN_USE = Refusal(
    "ResourceInUseException",
    "Cannot update the event source mapping because it is in use.",
    "AWS Lambda API, UpdateEventSourceMapping and DeleteEventSourceMapping: ResourceInUseException",
)
QUEUE_JUST_DELETED = Refusal(
    "AWS.SimpleQueueService.QueueDeletedRecently",
    "You must wait 60 seconds after deleting a queue before you can create another with the same name.",
    "Amazon SQS API, CreateQueue: QueueDeletedRecently",
)
SCALING_PENDING = Refusal(
    "ConcurrentUpdateException",
    "Concurrent updates caused an exception.",
    "https://github.com/hashicorp/terraform-provider-aws/issues/17915",
)
LOGS_PENDING = Refusal(
    "OperationAbortedException",
    "A conflicting operation is currently in progress against this resource. Please try again.",
    "https://github.com/aws/aws-cdk/issues/15709",
)

DENIED = Refusal(
    "AccessDenied",
    "User: arn:aws:iam::123456789012:user/operator is not authorized to perform: {action} because no identity-based "
    "policy allows the {action} action",
    "AWS IAM user guide, Troubleshoot access denied error messages",
)
"""As RDS, IAM, SQS and CloudWatch name it; it is AccessDeniedException where a service speaks JSON."""

THROTTLED = {
    "dynamodb": Refusal("ThrottlingException", "Rate of requests exceeds the allowed throughput.", "DynamoDB API"),
    "lambda": Refusal("TooManyRequestsException", "Rate exceeded", "AWS Lambda API, common errors"),
    "sqs": Refusal("RequestThrottled", "Request is throttled.", "Amazon SQS API, common errors"),
    "application-autoscaling": Refusal("ThrottlingException", "Rate exceeded", "Application Auto Scaling API"),
    "logs": Refusal("ThrottlingException", "Rate exceeded", "Amazon CloudWatch Logs API"),
}
"""How a service refuses a call for its rate; most others do as RDS and IAM."""
OTHER_THROTTLED = Refusal("Throttling", "Rate exceeded", "Amazon RDS API, IAM API, CloudWatch API: common errors")
