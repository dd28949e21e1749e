"""What SHOW GRANTS says, in MySQL's words and in MariaDB's."""

from __future__ import annotations

import pytest

from cqrsctl.read_model.grants import ALL, NEEDED, Grant, parse


@pytest.mark.parametrize(
    ("line", "privileges", "place", "grantable"),
    [
        # MySQL 8
        ("GRANT ALL PRIVILEGES ON `cqrs`.* TO `cqrsctl`@`%`", {ALL}, "`cqrs`.*", False),
        (
            "GRANT SELECT, CREATE VIEW ON `my-db`.* TO `u`@`%` WITH GRANT OPTION",
            {"SELECT", "CREATE VIEW"},
            "`my-db`.*",
            True,
        ),
        ("GRANT SELECT (`A`, `B ON C`), INSERT (`A`) ON `d`.`t` TO `u`@`%`", {"SELECT", "INSERT"}, "`d`.`t`", False),
        ("GRANT BACKUP_ADMIN,XA_RECOVER_ADMIN ON *.* TO `u`@`%`", {"BACKUP_ADMIN", "XA_RECOVER_ADMIN"}, "*.*", False),
        ("GRANT EXECUTE ON PROCEDURE `d`.`p` TO `u`@`%`", {"EXECUTE"}, "`d`.`p`", False),
        ("GRANT USAGE ON *.* TO `u`@`%` WITH GRANT OPTION", set(), "*.*", True),
        # MariaDB
        (
            "GRANT SELECT, FILE ON *.* TO `u`@`127.0.0.1` IDENTIFIED BY PASSWORD '*81F5E21E35407D884A6CD4A731AEBFB6AF' "
            "REQUIRE SSL WITH GRANT OPTION MAX_QUERIES_PER_HOUR 5",
            {"SELECT", "FILE"},
            "*.*",
            True,
        ),
        ("GRANT ALL PRIVILEGES ON `cqrs%`.* TO `cqrsctl`@`localhost`", {ALL}, "`cqrs%`.*", False),
    ],
)
def test_a_grant_is_read(line: str, privileges: set[str], place: str, grantable: bool) -> None:
    assert parse([line]).grants == (Grant(frozenset(privileges), place, grantable),)


@pytest.mark.parametrize(
    "line",
    [
        "GRANT USAGE ON *.* TO `u`@`%` IDENTIFIED BY PASSWORD '*81F5'",
        "GRANT PROXY ON ``@`%` TO `root`@`localhost` WITH GRANT OPTION",
        "SET DEFAULT ROLE `r` FOR `u`@`%`",
    ],
)
def test_what_is_no_right_on_data_is_left_out(line: str) -> None:
    assert parse([line]) == parse([])


@pytest.mark.parametrize(
    ("line", "roles"),
    [
        ("GRANT `rds_superuser_role`@`%` TO `admin`@`%`", ("rds_superuser_role",)),
        ("GRANT `a`@`%`,`b``c`@`h` TO `u`@`%`", ("a", "b`c")),
        ("GRANT `reporting` TO `u`@`127.0.0.1`", ("reporting",)),
    ],
)
def test_roles_are_named(line: str, roles: tuple[str, ...]) -> None:
    assert parse([line]).roles == roles


@pytest.mark.parametrize(
    ("place", "covers", "within"),
    [
        ("*.*", True, False),
        ("`cqrs_shop`.*", True, True),
        (r"`cqrs\_shop`.*", True, True),
        ("`cqrs%`.*", True, False),
        ("`cqrs`.*", False, False),
        (r"`cqrs\%`.*", False, False),
        ("`cqrs_shop`.`product_v1`", False, True),
        ("`other`.`product_v1`", False, False),
    ],
)
def test_a_pattern_covers_databases(place: str, covers: bool, within: bool) -> None:
    grant = Grant(frozenset({"SELECT"}), place)

    assert (grant.covers("cqrs_shop"), grant.within("cqrs_shop")) == (covers, within)


def test_missing_is_what_no_grant_on_the_whole_database_gives() -> None:
    assert parse([]).missing("cqrs") == NEEDED
    assert parse(["GRANT ALL PRIVILEGES ON `cqrs`.* TO `u`@`%`"]).missing("cqrs") == ()
    most = ", ".join(privilege for privilege in NEEDED if privilege != "INDEX")
    table = "GRANT INDEX ON `cqrs`.`product_v1` TO `u`@`%`"
    assert parse([f"GRANT {most} ON *.* TO `u`@`%`", table]).missing("cqrs") == ("INDEX",)
