"""cqrsctl operates a CQRS pipeline on AWS: DynamoDB, its stream, a projector, and an Aurora MySQL read model."""

__version__ = "0.1.0"
