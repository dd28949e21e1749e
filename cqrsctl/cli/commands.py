"""The commands by name: each is loaded from its module when it is used."""

from __future__ import annotations

import importlib
from typing import Any

import typer

COMMANDS = {
    "demo": "Run the whole pipeline on a fresh stack, step by step.",
    "local": "Start and stop the embedded stack.",
    "table": "Create and manage the write model's table.",
    "product": "Put, update, get, delete and import products.",
    "stream": "Look at what comes out of the table.",
    "project": "Run the projector: changes become rows of the read model.",
    "read-model": "Create, inspect, purge and drop the read model.",
    "query": "Query the read model.",
    "aurora": "Operate the read model's Aurora cluster and its readers.",
    "cost": "Show what the pipeline costs a month.",
    "function": "Package, deploy and operate the two Lambda functions.",
    "dead-letter": "List, show, retry and discard dead letters.",
    "rebuild": "Rebuild the read model while the old one serves.",
    "verify": "Compare the read model with the write model.",
    "doctor": "Find problems and suggest fixes.",
    "init": "Write a settings file, also for a table of your own.",
    "config": "Show the settings in force and the environments.",
    "permissions": "Print the IAM policy that commands need.",
    "lag": "Show how far the read model is behind.",
    "status": "Show the whole pipeline on one screen, and what is not well.",
}
"""Every command with its help line, so that --help need not load them. A test holds them to the modules'."""


def load_command(name: str) -> Any:
    """The command or group of a name, from its module."""
    module = importlib.import_module(f"cqrsctl.cli.{name.replace('-', '_')}")
    command = typer.main.get_command(module.app)
    command.name = name
    return command
