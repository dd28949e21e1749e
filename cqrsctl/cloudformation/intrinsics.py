"""CloudFormation's functions, as short as they are used."""

from __future__ import annotations

from typing import Any

NOTHING = {"Ref": "AWS::NoValue"}
"""A property of this value is left out."""


def ref(name: str) -> dict[str, Any]:
    """A parameter's value, or a resource's name."""
    return {"Ref": name}


def attribute(resource: str, name: str) -> dict[str, Any]:
    return {"Fn::GetAtt": [resource, name]}


def sub(text: str) -> dict[str, Any]:
    """Text with `${Name}` in it: parameters, resources, `AWS::Region` and its kin."""
    return {"Fn::Sub": text}


def when(condition: str, value: Any, otherwise: Any = NOTHING) -> dict[str, Any]:
    return {"Fn::If": [condition, value, otherwise]}


def given(parameter: str) -> dict[str, Any]:
    """The condition that an optional parameter is not empty."""
    return {"Fn::Not": [{"Fn::Equals": [ref(parameter), ""]}]}


def arn(service: str, resource: str) -> dict[str, Any]:
    """The ARN of something in the stack's region and account."""
    return sub(f"arn:${{AWS::Partition}}:{service}:${{AWS::Region}}:${{AWS::AccountId}}:{resource}")
