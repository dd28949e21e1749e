"""Settings: flags before variables before the file before defaults, and every mistake told with its place."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cqrsctl.config import EMBEDDED, DatabaseSettings, Environment, Flags, load, state_root
from cqrsctl.errors import ConfigurationError
from cqrsctl.projection.definition import default_product

if TYPE_CHECKING:
    from collections.abc import Mapping

ALL_LAYERS = """
environment = "prod"

[environments.prod]
profile = "file-profile"
region = "eu-west-1"
endpoint_url = "http://file"
table = "FileTable"

[environments.prod.database]
host = "file.example"
port = 3307
"""


class Settings:
    """A folder with a cqrsctl.toml, and what is read from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @property
    def path(self) -> Path:
        return self.folder / "cqrsctl.toml"

    def load(self, toml: str, variables: Mapping[str, str] | None = None, flags: Flags | None = None) -> Environment:
        self.path.write_text(toml, encoding="utf-8")
        return load(flags or Flags(), variables or {}, self.folder)

    def refused(
        self, toml: str, variables: Mapping[str, str] | None = None, flags: Flags | None = None
    ) -> ConfigurationError:
        with pytest.raises(ConfigurationError) as caught:
            self.load(toml, variables, flags)
        return caught.value


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(tmp_path)


class TestDefaults:
    def test_without_a_file_the_embedded_local_environment_applies(self, tmp_path: Path) -> None:
        found = load(Flags(), {"CQRSCTL_STATE_DIR": str(tmp_path)}, tmp_path)
        assert found == Environment(
            name="local",
            embedded=True,
            profile=None,
            region=None,
            endpoint_url=None,
            table="Products",
            database=DatabaseSettings(),
            projections=(default_product(),),
            state_dir=tmp_path / "local",
        )

    @pytest.mark.parametrize("name", EMBEDDED)
    def test_the_embedded_environments_need_no_declaration(self, tmp_path: Path, name: str) -> None:
        found = load(Flags(env=name), {}, tmp_path)
        assert (found.name, found.embedded, found.state_dir.name) == (name, True, name)

    def test_a_declared_environment_is_embedded_only_where_it_says_so(self, settings: Settings) -> None:
        assert not settings.load('environment = "prod"\n[environments.prod]').embedded
        assert settings.load('environment = "mine"\n[environments.mine]\nembedded = true').embedded

    def test_an_embedded_environment_can_be_given_settings(self, settings: Settings) -> None:
        found = settings.load('[environments.local]\ntable = "Goods"')
        assert (found.table, found.embedded) == ("Goods", True)


class TestFindingTheFile:
    def test_the_file_of_a_parent_folder_applies(self, settings: Settings) -> None:
        settings.path.write_text('[environments.local]\ntable = "Above"', encoding="utf-8")
        below = settings.folder / "a" / "b"
        below.mkdir(parents=True)
        assert load(Flags(), {}, below).table == "Above"

    def test_the_nearest_file_applies(self, settings: Settings) -> None:
        settings.path.write_text('[environments.local]\ntable = "Above"', encoding="utf-8")
        below = settings.folder / "a"
        below.mkdir()
        (below / "cqrsctl.toml").write_text('[environments.local]\ntable = "Below"', encoding="utf-8")
        assert load(Flags(), {}, below).table == "Below"

    def test_a_file_named_by_flag_goes_before_one_named_by_variable(self, tmp_path: Path) -> None:
        by_flag, by_variable = tmp_path / "flag.toml", tmp_path / "variable.toml"
        by_flag.write_text('[environments.local]\ntable = "Flag"', encoding="utf-8")
        by_variable.write_text('[environments.local]\ntable = "Variable"', encoding="utf-8")
        variables = {"CQRSCTL_CONFIG": str(by_variable)}
        assert load(Flags(), variables, tmp_path).table == "Variable"
        assert load(Flags(config=by_flag), variables, tmp_path).table == "Flag"

    def test_a_named_file_that_is_not_there_is_an_error(self, tmp_path: Path) -> None:
        missing = tmp_path / "nowhere.toml"
        with pytest.raises(ConfigurationError, match=r"nowhere\.toml: No such file") as caught:
            load(Flags(config=missing), {}, tmp_path)
        assert caught.value.hint == "Check the file, or name another with --config."

    def test_a_folder_is_not_a_file(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="Is a directory"):
            load(Flags(config=tmp_path), {}, tmp_path)


class TestPrecedence:
    VARIABLES: Mapping[str, str] = {
        "CQRSCTL_PROFILE": "variable-profile",
        "CQRSCTL_REGION": "us-east-1",
        "CQRSCTL_ENDPOINT_URL": "http://variable",
        "CQRSCTL_TABLE": "VariableTable",
        "CQRSCTL_DATABASE_HOST": "variable.example",
        "CQRSCTL_DATABASE_PORT": "3308",
    }

    def test_the_file_goes_before_defaults(self, settings: Settings) -> None:
        found = settings.load(ALL_LAYERS)
        assert (found.name, found.profile, found.region, found.endpoint_url, found.table) == (
            "prod",
            "file-profile",
            "eu-west-1",
            "http://file",
            "FileTable",
        )
        assert found.database == DatabaseSettings(host="file.example", port=3307, name="cqrs", user=None)

    def test_variables_go_before_the_file(self, settings: Settings) -> None:
        found = settings.load(ALL_LAYERS, self.VARIABLES)
        assert (found.profile, found.region, found.endpoint_url, found.table) == (
            "variable-profile",
            "us-east-1",
            "http://variable",
            "VariableTable",
        )
        assert (found.database.host, found.database.port) == ("variable.example", 3308)

    def test_a_tunnel_begins_at_a_host_and_perhaps_a_port(self, settings: Settings) -> None:
        toml = '[environments.local.database]\nhost = "db.example"\nconnect_host = "127.0.0.1"\n'
        assert settings.load(toml).database.connect_host == "127.0.0.1"
        assert settings.load(toml, {"CQRSCTL_DATABASE_CONNECT_PORT": "13306"}).database.connect_port == 13306
        refused = settings.refused("", {"CQRSCTL_DATABASE_CONNECT_PORT": "13306"})
        assert "database.connect_host is not" in refused.message

    def test_flags_go_before_variables(self, settings: Settings) -> None:
        flags = Flags(profile="flag-profile", region="ap-south-1", endpoint_url="http://flag")
        found = settings.load(ALL_LAYERS, self.VARIABLES, flags)
        assert (found.profile, found.region, found.endpoint_url) == ("flag-profile", "ap-south-1", "http://flag")
        assert found.table == "VariableTable"

    def test_an_empty_variable_counts_as_not_set(self, settings: Settings) -> None:
        found = settings.load(ALL_LAYERS, dict.fromkeys(self.VARIABLES, ""))
        assert (found.region, found.database.port) == ("eu-west-1", 3307)

    def test_the_environment_is_chosen_by_flag_then_variable_then_file(self, settings: Settings) -> None:
        toml = 'environment = "a"\n[environments.a]\n[environments.b]\n[environments.c]'
        variables = {"CQRSCTL_ENV": "b"}
        assert settings.load(toml).name == "a"
        assert settings.load(toml, variables).name == "b"
        assert settings.load(toml, variables, Flags(env="c")).name == "c"

    def test_a_variable_can_switch_iam_off(self, settings: Settings) -> None:
        toml = "[environments.local.database]\niam_auth = true"
        assert settings.load(toml).database.iam_auth is True
        assert settings.load(toml, {"CQRSCTL_DATABASE_IAM_AUTH": "false"}).database.iam_auth is False

    def test_the_password_comes_from_its_variable_and_is_never_shown(self, settings: Settings) -> None:
        found = settings.load("", {"CQRSCTL_DATABASE_PASSWORD": "hunter2"})
        assert found.database.password == "hunter2"
        assert "hunter2" not in repr(found)

    def test_the_home_folder_is_found_in_a_path(self, settings: Settings) -> None:
        found = settings.load('[environments.local.database]\nca_bundle = "~/ca.pem"')
        assert found.database.ca_bundle == Path.home() / "ca.pem"

    def test_a_home_folder_that_does_not_exist_is_named(self, settings: Settings) -> None:
        with pytest.raises(ConfigurationError, match=r"~nobody-of-this-name/ca\.pem: there is no such home folder"):
            settings.load('[environments.local.database]\nca_bundle = "~nobody-of-this-name/ca.pem"')


class TestMistakes:
    @pytest.mark.parametrize(
        ("toml", "place", "hint"),
        [
            ('enviroment = "x"', "cqrsctl.toml: unknown key `enviroment`", "Did you mean environment?"),
            (
                '[environments.local]\nregoin = "x"',
                "environments.local: unknown key `regoin`",
                "Did you mean region?",
            ),
            (
                "[environments.local.database]\nprot = 1",
                "environments.local: database: unknown key `prot`",
                "Did you mean port?",
            ),
            (
                '[[projections]]\nnam = "p"\nview = "P"\ncolumns = []',
                "projections[0]: unknown key `nam`",
                "Did you mean name?",
            ),
        ],
    )
    def test_an_unknown_key_is_told_with_its_place_and_a_suggestion(
        self, settings: Settings, toml: str, place: str, hint: str
    ) -> None:
        error = settings.refused(toml)
        assert place in error.message
        assert error.hint == hint

    def test_an_unknown_key_like_no_other_lists_the_known_ones(self, settings: Settings) -> None:
        error = settings.refused("[environments.local.database]\nxyzzy = 1")
        assert error.hint is not None
        assert error.hint.startswith("Known keys: ca_bundle, cluster, connect_host, connect_port, host, ")

    @pytest.mark.parametrize(
        ("toml", "place"),
        [
            ("environment = 5", "environment: text is expected, not a whole number."),
            ("environments = 5", "environments: a table is expected, not a whole number."),
            ("[environments.local]\ntable = true", "environments.local: table: text is expected, not true or false."),
            (
                '[environments.local]\nembedded = "yes"',
                "environments.local: embedded: true or false is expected, not text.",
            ),
            ('[environments.local]\ndatabase = "x"', "environments.local: database: a table is expected, not text."),
            (
                "[environments.local]\ndatabase = 5",
                "environments.local: database: a table is expected, not a whole number.",
            ),
            ("database = 5", "unknown key `database`"),
            ('[environments.local.database]\nport = "3306"', "database.port: a whole number is expected, not text."),
            ("projections = [5]", "projections[0]: a table is expected, not a whole number."),
        ],
    )
    def test_a_wrong_type_is_told_with_its_place(self, settings: Settings, toml: str, place: str) -> None:
        error = settings.refused(toml)
        assert place in error.message
        assert str(settings.path) in error.message

    @pytest.mark.parametrize(
        ("variable", "value", "expected"),
        [
            ("CQRSCTL_DATABASE_PORT", "many", "a whole number"),
            ("CQRSCTL_DATABASE_PORT", "33.5", "a whole number"),
            ("CQRSCTL_DATABASE_IAM_AUTH", "perhaps", "true or false"),
        ],
    )
    def test_a_variable_of_a_wrong_type_is_named(
        self, settings: Settings, variable: str, value: str, expected: str
    ) -> None:
        assert settings.refused("", {variable: value}).message == f"{variable}: {expected} is expected, not text."

    def test_broken_toml_is_told_with_its_line(self, settings: Settings) -> None:
        error = settings.refused('environment = "local"\n[environments.local\n')
        assert error.message == f"{settings.path}: it is not TOML, line 2 is wrong at character 20."

    def test_broken_toml_is_not_repeated_as_it_may_be_a_secret(self, settings: Settings) -> None:
        error = settings.refused("password = hunter2")
        assert error.message == f"{settings.path}: it is not TOML, line 1 is wrong at character 12."

    def test_toml_without_its_end_is_told(self, settings: Settings) -> None:
        assert settings.refused('a = """').message.endswith("it is not TOML, something is not closed at its end.")

    def test_a_settings_file_that_cannot_be_read_is_an_error_and_never_left_out(self, settings: Settings) -> None:
        (settings.folder / "deeper").mkdir()
        settings.path.symlink_to("nothing")
        with pytest.raises(ConfigurationError, match=r"cqrsctl.toml: a symbolic link to a file that is not there\.$"):
            load(Flags(), {}, settings.folder / "deeper")
        settings.path.unlink()
        settings.path.mkdir()
        with pytest.raises(ConfigurationError, match=r"cqrsctl.toml: Is a directory\.$"):
            load(Flags(), {}, settings.folder)

    @pytest.mark.parametrize("url", ["foo", "http://", "http://host:port", "http://[host", "http://host:99999"])
    def test_an_endpoint_that_is_no_url_is_refused(self, settings: Settings, url: str) -> None:
        assert settings.refused("", flags=Flags(endpoint_url=url)).message == f"endpoint_url: {url!r} is not a URL."

    def test_a_file_that_is_not_utf_8_is_refused(self, settings: Settings) -> None:
        settings.path.write_bytes(b'environment = "caf\xe9"')
        with pytest.raises(ConfigurationError, match="not UTF-8"):
            load(Flags(), {}, settings.folder)

    @pytest.mark.parametrize(
        "toml",
        [
            'password = "hunter2"',
            '[database]\npassword = "hunter2"',
            '[environments.local]\npassword = "hunter2"',
            '[environments.local.database]\npassword = "hunter2"',
        ],
    )
    def test_a_password_in_the_file_is_refused_and_not_repeated(self, settings: Settings, toml: str) -> None:
        error = settings.refused(toml)
        assert "a password does not belong in the file" in error.message
        assert error.hint is not None
        assert "CQRSCTL_DATABASE_PASSWORD" in error.hint
        assert "hunter2" not in error.message + error.hint

    def test_a_password_in_an_environment_that_is_not_chosen_is_refused_too(self, settings: Settings) -> None:
        error = settings.refused('[environments.prod.database]\npassword = "hunter2"')
        assert "environments.prod: a password does not belong in the file" in error.message

    def test_an_unknown_environment_is_told_with_the_known_ones(self, settings: Settings) -> None:
        error = settings.refused("[environments.prod]", flags=Flags(env="prd"))
        assert error.message == "No environment 'prd'; known are demo, local, prod."
        assert error.hint is not None
        assert "[environments.prd]" in error.hint
        assert error.hint.startswith("Did you mean prod? ")
        other = settings.refused("[environments.prod]", flags=Flags(env="xyz"))
        assert other.hint == "Declare [environments.xyz] in cqrsctl.toml, or choose another with --env."

    @pytest.mark.parametrize("name", ["../x", "a/b", "a b", "."])
    def test_an_environments_name_cannot_lead_out_of_its_folder(self, settings: Settings, name: str) -> None:
        error = settings.refused(f'environment = "{name}"\n[environments."{name}"]')
        assert f"{name!r} is not an environment's name" in error.message

    @pytest.mark.parametrize("port", [0, -1, 65_536])
    def test_a_port_out_of_range_is_refused(self, settings: Settings, port: int) -> None:
        expected = f"database.port: {port} is not a port (1 to 65535)."
        assert settings.refused(f"[environments.local.database]\nport = {port}").message == expected
        assert settings.refused("", {"CQRSCTL_DATABASE_PORT": str(port)}).message == expected

    @pytest.mark.parametrize("port", [1, 65_535])
    def test_the_first_and_the_last_port_are_ports(self, settings: Settings, port: int) -> None:
        assert settings.load(f"[environments.local.database]\nport = {port}").database.port == port

    def test_a_secret_and_iam_cannot_both_be_set(self, settings: Settings) -> None:
        toml = '[environments.local.database]\nsecret = "cqrs/db"\niam_auth = true'
        assert "database.secret and database.iam_auth are both set" in settings.refused(toml).message
        toml = '[environments.local.database]\nsecret = "cqrs/db"'
        assert "both set" in settings.refused(toml, {"CQRSCTL_DATABASE_IAM_AUTH": "true"}).message
        assert settings.load(toml, {"CQRSCTL_DATABASE_IAM_AUTH": "false"}).database.secret == "cqrs/db"


PROJECTION = """
[[projections]]
name = "offers"
view = "Offer"
columns = [
  { name = "Id", attribute = "ProductId", type = "bigint", key = true },
  { name = "Price", type = "decimal(18,4)", default = "0.10", index = true },
  { name = "City", type = "varchar(80)", attribute = "Maker.City", required = true },
]
"""


def projection(columns: str, name: str = "p", view: str = "P") -> str:
    return f'[[projections]]\nname = "{name}"\nview = "{view}"\ncolumns = [{columns}]\n'


class TestProjections:
    def test_a_declared_projection_replaces_the_default(self, settings: Settings) -> None:
        (declared,) = settings.load(PROJECTION).projections
        assert (declared.name, declared.view) == ("offers", "Offer")
        identity, price, city = declared.columns
        assert (identity.name, identity.attribute, identity.key) == ("Id", "ProductId", True)
        assert (price.attribute, str(price.type), price.default, price.index) == (
            "Price",
            "decimal(18,4)",
            Decimal("0.10"),
            True,
        )
        assert (city.attribute, city.required) == ("Maker.City", True)

    @pytest.mark.parametrize(
        ("columns", "place"),
        [
            ('{name = "a", type = "int", key = true}', "projections[0].columns[0]: unknown type 'int'"),
            ('{nam = "a", type = "bigint"}', "projections[0].columns[0]: unknown key `nam`"),
            ('{name = "a"}', "projections[0].columns[0]: missing key `type`"),
            ('{name = "a b", type = "bigint"}', "projections[0].columns[0]: 'a b' is not a column name"),
            ('{name = "a", type = "json", key = true}', "projections[0].columns[0]: a: a key column cannot be json"),
            (
                '{name = "a", type = "bigint", key = true}, {name = "b", type = "decimal(3,1)", default = "many"}',
                "projections[0].columns[1]: 'many' is not a number",
            ),
            (
                '{name = "a", type = "bigint", key = true}, {name = "b", type = "decimal(3,1)", default = "0.25"}',
                "projections[0].columns[1]: 0.25 has more than 1 decimals",
            ),
            (
                '{name = "a", type = "decimal(3,1)", key = true, default = 0.1}',
                "projections[0].columns[0]: default: true or false or a whole number or text is expected, not",
            ),
            ('{name = "a", type = "bigint"}', "projections[0]: projection p: no column is the key"),
            ("", "projections[0]: projection p: no column is the key"),
        ],
    )
    def test_a_mistake_is_told_with_its_place(self, settings: Settings, columns: str, place: str) -> None:
        error = settings.refused(projection(columns))
        assert f"{settings.path}: {place}" in error.message

    def test_the_second_projections_mistakes_name_the_second(self, settings: Settings) -> None:
        good = projection('{name = "a", type = "bigint", key = true}')
        assert "projections[1]: 'P 2' cannot be" in settings.refused(good + projection("", "q", "P 2")).message

    @pytest.mark.parametrize(("name", "view", "what"), [("p", "Q", "name"), ("q", "p", "view")])
    def test_two_projections_cannot_share_a_name_or_a_view(
        self, settings: Settings, name: str, view: str, what: str
    ) -> None:
        columns = '{name = "a", type = "bigint", key = true}'
        error = settings.refused(projection(columns) + projection(columns, name, view))
        assert f"two projections have the same {what}" in error.message


class TestAwsEndpoints:
    @pytest.mark.parametrize(
        ("variable", "service", "expected"),
        [
            ("AWS_ENDPOINT_URL", "dynamodb", True),
            ("AWS_ENDPOINT_URL", "rds", True),
            ("AWS_ENDPOINT_URL_DYNAMODB", "dynamodb", True),
            ("AWS_ENDPOINT_URL_DYNAMODB", "dynamodbstreams", False),
            ("AWS_ENDPOINT_URL_DYNAMODB_STREAMS", "dynamodbstreams", True),
            ("AWS_ENDPOINT_URL_DYNAMODB_STREAMS", "dynamodb", False),
            ("AWS_ENDPOINT_URL_SECRETS_MANAGER", "secretsmanager", True),
            ("AWS_ENDPOINT_URL_RDS", "dynamodb", False),
        ],
    )
    def test_a_variable_of_boto3_names_the_endpoint_of_its_services(
        self, tmp_path: Path, variable: str, service: str, expected: bool
    ) -> None:
        assert load(Flags(), {variable: "http://localhost:8000"}, tmp_path).aws_endpoint(service) is expected

    def test_an_empty_variable_names_no_endpoint(self, tmp_path: Path) -> None:
        assert not load(Flags(), {"AWS_ENDPOINT_URL": ""}, tmp_path).aws_endpoint("dynamodb")


class TestStateRoot:
    def test_the_state_folder_is_chosen_by_its_variable(self, tmp_path: Path) -> None:
        assert state_root({"CQRSCTL_STATE_DIR": str(tmp_path)}) == tmp_path

    def test_the_chosen_state_folder_may_be_below_home_or_here(self) -> None:
        assert state_root({"CQRSCTL_STATE_DIR": "~/state"}) == Path.home() / "state"
        assert state_root({"CQRSCTL_STATE_DIR": "state"}) == Path.cwd() / "state"

    @pytest.mark.parametrize("variables", [{}, {"CQRSCTL_STATE_DIR": "~/state"}])
    def test_an_account_without_name_and_home_is_told_what_to_set(
        self, variables: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As in a container that is started with a free user id."""
        for name in ("HOME", "XDG_STATE_HOME"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(os, "getuid", lambda: 54_321)
        with pytest.raises(ConfigurationError, match="no home folder") as refused:
            state_root(variables)
        assert "CQRSCTL_STATE_DIR" in str(refused.value.hint)
        assert state_root({"CQRSCTL_STATE_DIR": "/var/state"}) == Path("/var/state")

    def test_each_environment_has_a_state_folder_of_its_own(self, tmp_path: Path) -> None:
        variables = {"CQRSCTL_STATE_DIR": str(tmp_path)}
        assert load(Flags(env="demo"), variables, tmp_path).state_dir == tmp_path / "demo"
