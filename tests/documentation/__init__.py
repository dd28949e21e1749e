"""The commands that help texts and documents name."""

from __future__ import annotations

from scripts.reference import every_command

LEAVES = {name: command for name, command in every_command() if not hasattr(command, "commands")}
"""Every command that does something, by the words that are typed."""
