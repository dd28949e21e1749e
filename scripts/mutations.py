"""Plants mistakes in a copy of cqrsctl, one at a time, and runs the tests that have to catch each."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
_COPIED = ("cqrsctl", "tests", "scripts", "docs", "pyproject.toml", "README.md")
_TESTS_FAILED = 1
"""pytest's exit code if tests ran and some failed; any other one says nothing about the mistake."""


@dataclass(frozen=True, slots=True)
class Mutation:
    """A mistake: the text that stands once in a file of the package, and what takes its place."""

    name: str
    file: str
    text: str
    mistake: str
    test: str


MUTATIONS = (
    Mutation(
        "a projector that stops within a page remembers the whole page as read",
        "projection/batch.py",
        "        read_through=last.created_at if last.is_dated else None,\n",
        "",
        "tests/unit/projection/test_batch.py",
    ),
    Mutation(
        "a child's records are taken for promised from now on, however far its parent was read",
        "stream/followers.py",
        "read_through(now) if parent is None else parent.read_through",
        "read_through(now)",
        "tests/simulation/test_simulation.py"
        "::test_a_child_that_was_never_listed_and_whose_first_records_were_trimmed_is_a_gap",
    ),
    Mutation(
        "a projection that stands nowhere in a shard is taken to be as far as the others",
        "stream/following.py",
        "                positions[shard.shard_id] = start(shard, positions, now)\n",
        """\
                others = self.in_shard(shard.shard_id).values()
                positions[shard.shard_id] = (
                    followers.furthest_behind(others) if others else start(shard, positions, now)
                )
""",
        "tests/simulation/test_operations.py",
    ),
    Mutation(
        "the floor of the former table is deleted at the next rebuild",
        "read_model/rebuilds.py",
        '"DELETE FROM cqrs_snapshot WHERE projection = %s AND version <> %s", (projection.name, active.version)',
        '"DELETE FROM cqrs_snapshot WHERE projection = %s", (projection.name,)',
        "tests/integration/pipeline/test_letters_and_rebuilds.py::test_the_floor_of_the_former_table_outlives_the_next_rebuild",
    ),
    Mutation(
        "a segment's progress is committed before its page is loaded",
        "pipeline/rebuild/snapshot.py",
        """\
            loader.load(page.chunk)
            loaded_segments.write(self.connection, self._name, page.segment)
""",
        """\
            loaded_segments.write(self.connection, self._name, page.segment)
            self.connection.commit()
            loader.load(page.chunk)
""",
        "tests/integration/pipeline/test_letters_and_rebuilds.py::test_a_segment_is_not_further_than_what_was_loaded_of_it",
    ),
    Mutation(
        "a rebuild does not wait for changes that the stream shows late",
        "pipeline/rebuild/rebuilding.py",
        "_STREAM_DELAY = timedelta(seconds=5)",
        "_STREAM_DELAY = timedelta(0)",
        "tests/faults/test_rebuild_late_stream.py",
    ),
    Mutation(
        "a dead letter is committed after the checkpoint",
        "read_model/writing.py",
        """\
            dead_letters.write(self.connection, batch.letters)
            with_it()
            self.connection.commit()
""",
        """\
            with_it()
            self.connection.commit()
            dead_letters.write(self.connection, batch.letters)
            self.connection.commit()
""",
        "tests/integration/pipeline/test_letters_and_rebuilds.py::test_a_letter_is_committed_with_the_checkpoint_after_it",
    ),
    Mutation(
        "an undo does not take the projector's lock",
        "pipeline/rebuild/beginning.py",
        "        take_lock(self.connection, self.database, [self.projection])\n",
        "",
        "tests/integration/pipeline/test_letters_and_rebuilds.py::test_an_undo_that_nobody_may_share_holds_the_projectors_lock",
    ),
    Mutation(
        "a projector continues while the rebuild that is to end its gap was left unfinished",
        "read_model/takeover.py",
        "    require_filled(name for name in unfilled(connection, projections) if not is_rebuilt(connection, name))\n",
        "",
        "tests/integration/read_model/test_takeover.py::test_a_gap_is_one_until_the_rebuild_that_loads_what_was_lost_is_done",
    ),
    Mutation(
        "a rebuild that was left unfinished resumes though changes were lost to the function meanwhile",
        "pipeline/rebuild/beginning.py",
        "            or any(gap.marked_at.replace(tzinfo=None) >= found.begun_at for gap in gaps)\n",
        "",
        "tests/simulation/test_operations.py"
        "::test_a_rebuild_left_unfinished_while_the_function_stood_still_begins_again",
    ),
    Mutation(
        "a projector begins a view at the horizon because its first rebuild was left unfinished",
        "read_model/checkpoints.py",
        " and not is_rebuilt(connection, name)}",
        " and False}",
        "tests/simulation/test_operations.py"
        "::test_a_first_rebuild_that_ended_before_anything_was_read_is_none_to_wait_for_a_day_later",
    ),
    Mutation(
        "when a projector last tried counts before a function's deployment, not how far it read",
        "read_model/function_position.py",
        "COALESCE(read_through, record_time, updated_at) < NOW(6)",
        "updated_at < NOW(6)",
        "tests/integration/functions/test_function_gaps.py"
        "::test_a_first_function_after_a_projector_has_a_gap_if_changes_left_the_stream_unread",
    ),
    Mutation(
        "a first rebuild of which nothing was read resumes after the stream has lost changes",
        "pipeline/rebuild/beginning.py",
        "            (never_followed and not self.stream_has_all)\n            or checkpoints",
        "            checkpoints",
        "tests/simulation/test_operations.py"
        "::test_a_first_rebuild_that_ended_before_anything_was_read_is_none_to_wait_for_a_day_later",
    ),
    Mutation(
        "a first rebuild that was left unfinished hides the items that it did not load",
        "pipeline/rebuild/beginning.py",
        "            again(self._mark_unfilled)\n",
        "            pass\n",
        "tests/simulation/test_operations.py::test_a_first_rebuild_that_is_left_unfinished_is_a_gap",
    ),
    Mutation(
        "a table that is being built keeps what an item was before a change that it cannot take",
        "projection/batch.py",
        "newest_per_key([*fitting, *instead])",
        "fitting",
        "tests/integration/pipeline/test_letters_and_rebuilds.py"
        "::test_a_change_that_only_the_new_table_cannot_take_never_leads_back",
    ),
    Mutation(
        "a takeover forgets the checkpoints of projectors that are at work",
        "read_model/takeover.py",
        "if locks.take(connection, locks.of_projector(database, name))]",
        "]",
        "tests/integration/read_model/test_takeover.py::test_a_takeover_leaves_the_checkpoints_of_who_projects_alone",
    ),
    Mutation(
        "an answer counts though it is not the one that DynamoDB computed the checksum of",
        "aws.py",
        '    _require_whole(headers.get("x-amz-crc32"), body)\n',
        "",
        "tests/faults/test_odd_responses.py",
    ),
    Mutation(
        "a failover whose response was lost is asked for a second time",
        "pipeline/failover.py",
        "if found.status == cluster.AVAILABLE and found.writer and found.writer.name == planned.before:",
        "if found:",
        "tests/integration/aurora/test_aurora.py::test_a_failover_whose_answer_was_lost_is_not_asked_for_twice",
    ),
    Mutation(
        "a command that is to stop waits for AWS",
        "stopping.py",
        "if self.stop.is_set() and not wait([answer], _GRACE_SECONDS).done:",
        "if False:",
        "tests/unit/test_stopping.py::test_an_answer_that_does_not_come_is_not_waited_for",
    ),
    Mutation(
        "a bucket's key may also be used to read what is in the bucket",
        "functions/roles.py",
        'operations = ["GenerateDataKey"] if service == "s3" else ["Decrypt", "GenerateDataKey"]',
        'operations = ["Decrypt", "GenerateDataKey"]',
        "tests/aws/test_role_policies.py::test_a_bucket_is_written_only_and_with_its_key_only",
    ),
    Mutation(
        "the function's own code may make and delete network interfaces",
        "functions/policies.py",
        '"Action": [_MAKING_INTERFACES, *_KEEPING_INTERFACES, *_LOOKING_AT_NETWORK],',
        '"Action": [*_LOOKING_AT_NETWORK],',
        "tests/aws/test_role_policies.py::test_the_projector_s_code_may_not_do_what_lambda_does_with_interfaces",
    ),
    Mutation(
        "a reader that autoscaling added keeps the cluster of a creation that fails",
        "cloudformation/template_stores.py",
        '"DependsOn": ["Reader", "CommandFunction", "DatabaseFromProjector", *template_alarms.resources()],',
        '"DependsOn": "Reader",',
        "tests/aws/test_failed_creation.py::test_nothing_that_aws_makes_beside_the_stack_is_left_or_in_the_way",
    ),
    Mutation(
        "the printed policy lacks the groups that a cluster is created with",
        "diagnosis/doctor/needs.py",
        'for group in ("subgrp:*", "og:default*")',
        'for group in ("og:default*",)',
        "tests/aws/test_command_policies.py::test_a_command_s_policy_allows_every_call_that_it_makes",
    ),
    Mutation(
        "the printed policy allows to decrypt anything with any key",
        "diagnosis/doctor/needs.py",
        '*_simulated("kms", "Decrypt", Purpose.KEYS, _keys, ("dynamodb", "secretsmanager")),',
        '*_simulated("kms", "Decrypt", Purpose.KEYS, _keys),',
        "tests/aws/test_command_policies.py::test_a_command_s_policy_allows_nothing_else",
    ),
)


def is_caught(mutation: Mutation | None, test: str) -> bool:
    """Whether a test fails on a copy with a mistake, or on one without. Raises RuntimeError if it cannot be run."""
    with tempfile.TemporaryDirectory(prefix="cqrsctl-mutation-") as folder:
        copy = Path(folder)
        for name in _COPIED:
            source = ROOT / name
            (shutil.copytree if source.is_dir() else shutil.copy)(source, copy / name)
        if mutation is not None:
            _plant(mutation, copy / "cqrsctl" / mutation.file)
        command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", test]
        done = subprocess.run(
            command, cwd=copy, env={**os.environ, "PYTHONPATH": folder}, capture_output=True, text=True, check=False
        )
    if done.returncode not in {0, _TESTS_FAILED}:
        raise RuntimeError(f"{test} cannot be run:\n{done.stdout}{done.stderr}")
    return done.returncode == _TESTS_FAILED


def _plant(mutation: Mutation, file: Path) -> None:
    text = file.read_text(encoding="utf-8")
    if text.count(mutation.text) != 1:
        raise RuntimeError(f"{mutation.name}: {mutation.file} must have the text to be changed exactly once")
    file.write_text(text.replace(mutation.text, mutation.mistake), encoding="utf-8")


def main(names: list[str]) -> int:
    """Print what became of each mistake; 1 if one was not caught."""
    survived = 0
    for mutation in MUTATIONS:
        if names and not any(name in mutation.name for name in names):
            continue
        if is_caught(None, mutation.test):
            raise RuntimeError(f"{mutation.test} fails without a mistake")
        caught = is_caught(mutation, mutation.test)
        survived += not caught
        sys.stdout.write(f"{'caught  ' if caught else 'SURVIVED'}  {mutation.name}\n")
        sys.stdout.flush()
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
