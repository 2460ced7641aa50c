"""Settings within settings: named by a path from any source, and the errors that name them."""

from __future__ import annotations

from typing import Annotated

import msgspec
import pytest
from msgspec import Meta

from gateway.core.config import LayerSettings
from gateway.core.errors import ConfigError
from gateway.core.sources import Sources


class Login(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    account: str = ""
    password: Annotated[str, Meta(extra={"secret": True})] = ""


class Host(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    connect: Annotated[str, Meta(description="Where it is.")]
    tls: bool = True
    user_name: str = ""
    password: Annotated[str, Meta(extra={"secret": True})] = ""
    domains: tuple[str, ...] = ()
    login: Login | None = None

    def __post_init__(self):
        if self.user_name == "root":
            raise ValueError("nobody is root")


class Delivery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    enabled: bool = True
    port: Annotated[int, Meta(ge=1, description="Where. By number.")] = 25


class Post(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    hosts: dict[str, Host] = {}
    delivery: Delivery = Delivery(port=26)
    delivery_note: str = ""
    others: tuple[Delivery, ...] = ()
    codes: Annotated[dict[str, int], Meta(extra={"secret": True})] = {}


FILE = {"hosts": {"sink": {"connect": "a:1", "user_name": "u"}}, "delivery": {"port": 27}}


def sources(*assignments, file=FILE, **environ):
    found = Sources()
    if file is not None:
        found.add_tables({"post": file}, "gateway.toml")
    variables = {f"GATEWAY_POST_{name}": value for name, value in environ.items()}
    found.add_environment(variables, ["post"])
    for assignment in assignments:
        found.add_assignment(f"post.{assignment}")
    return found


def post(*assignments, **more):
    return sources(*assignments, **more).settings({"post": Post}).tables["post"]


def test_option_within_settings():
    """An option names a setting within a struct and within an entry, and leaves those beside it."""
    found = post("delivery.enabled=false", "hosts.sink.connect=b:2", "hosts.sink.domains=x, y")
    assert found.delivery == Delivery(enabled=False, port=27)
    assert found.hosts == {"sink": Host(connect="b:2", user_name="u", domains=("x", "y"))}


def test_variable_within_settings():
    """So does a variable, whatever underscores names have; an option wins over it."""
    found = post(
        "hosts.sink.login.account=me",
        HOSTS_SINK_PASSWORD="1234",
        HOSTS_SINK_USER_NAME="v",
        HOSTS_SINK_LOGIN_ACCOUNT="you",
        HOSTS_SINK_LOGIN_PASSWORD="5",
        DELIVERY_ENABLED="false",
        DELIVERY_NOTE="n",
    )
    login = Login(account="me", password="5")
    assert found.hosts == {"sink": Host(connect="a:1", user_name="v", password="1234", login=login)}
    assert found.delivery == Delivery(enabled=False, port=27)
    assert found.delivery_note == "n"


def test_names_in_variables():
    """A name that is there is found by its letters; a new one is as short as can be."""
    file = {"hosts": {"main-eu": {"connect": "a:1"}, "main": {"connect": "b:2"}}}
    found = post(
        file=file,
        HOSTS_MAIN_EU_PASSWORD="1",
        HOSTS_MAIN_PASSWORD="2",
        HOSTS_NEW_CONNECT="c:3",
        HOSTS_NEW_USER_NAME="x",
        HOSTS_A_B_CONNECT="d:4",
        CODES_A_B="7",
    )
    assert found.hosts == {
        "main-eu": Host(connect="a:1", password="1"),
        "main": Host(connect="b:2", password="2"),
        "new": Host(connect="c:3", user_name="x"),
        "a_b": Host(connect="d:4"),
    }
    assert found.codes == {"a_b": 7}


def test_names_with_dots():
    """A name with dots is quoted, or is what leaves a setting after it."""
    found = post('hosts."mail.example".connect=a:1', "hosts.b.example.connect=b:2", file=None)
    assert set(found.hosts) == {"mail.example", "b.example"}
    options = Sources()
    options.add_assignment("layer.capacities.'*.connect'=5")
    options.add_assignment("layer.capacities.http.request=6")
    default = LayerSettings().capacities
    merged = options.settings({}).layer.capacities
    assert merged == {**default, "*.connect": 5, "http.request": 6}


def test_beside_the_default():
    """Where no source says anything it is the default that is left."""
    assert post("delivery.enabled=false", file=None).delivery == Delivery(enabled=False, port=26)


def test_whole_tables():
    """A later value of a whole table replaces what was set within it; a part of it comes after."""
    found = post(
        "delivery={enabled=false}",
        'hosts.sink={connect="c:3"}',
        "hosts.sink.tls=false",
        DELIVERY_PORT="9",
        HOSTS_NEW='{connect="d:4"}',
    )
    assert found.delivery == Delivery(enabled=False)
    assert found.hosts == {"sink": Host(connect="c:3", tls=False), "new": Host(connect="d:4")}


def test_what_is_required_may_come_from_elsewhere():
    """What a file leaves out of a table may be in the environment; the file's own stays as it is."""
    file = {"hosts": {"sink": {"tls": False}}}
    assert post(file=file, HOSTS_SINK_CONNECT="e:5").hosts == {
        "sink": Host(connect="e:5", tls=False)
    }
    assert file == {"hosts": {"sink": {"tls": False}}}


def test_rows():
    """Each is shown with its source below the setting that it is in; a secret stays one."""
    found = sources(
        "codes.a=4711",
        "hosts.x={connect='a:1', password='4711'}",
        HOSTS_SINK_PASSWORD="4711",
        DELIVERY_PORT="9",
    )
    rows = list(found.rows("post", found.settings({"post": Post}).tables["post"]))
    assert "4711" not in str(rows)
    assert [(row.key, row.origin) for row in rows] == [
        ("post.hosts", "gateway.toml: post.hosts, and what follows"),
        ("post.hosts.sink.password", "GATEWAY_POST_HOSTS_SINK_PASSWORD"),
        ("post.hosts.x", "--set post.hosts.x"),
        ("post.delivery", "gateway.toml: post.delivery, and what follows"),
        ("post.delivery.port", "GATEWAY_POST_DELIVERY_PORT"),
        ("post.delivery_note", "default"),
        ("post.others", "default"),
        ("post.codes", "default, and what follows"),
        ("post.codes.a", "--set post.codes.a"),
    ]
    port = next(row for row in rows if row.key == "post.delivery.port")
    assert (port.value, port.default, port.description) == (9, 25, "Where. By number.")
    assert next(row for row in rows if row.key == "post.hosts.x").value["connect"] == "a:1"


SINK = FILE["hosts"]["sink"]
WRONG = [
    (["hosts.sink.tsl=1"], FILE,
     "--set post.hosts.sink.tsl: [post.hosts.sink] has no setting 'tsl'; did you mean 'tls'?"),
    (["delivery.enabld=1"], FILE,
     "--set post.delivery.enabld: [post.delivery] has no setting 'enabld'; did you mean 'enabled'"),
    (["hosts.sink.login.acount=1"], FILE, ("--set post.hosts.sink.login.acount: "
     "[post.hosts.sink.login] has no setting 'acount'; did you mean 'account'?")),
    (["delivery.port.x=1"], FILE, "--set post.delivery.port.x: [post.delivery] has no setting"),
    (["delivery.port=x"], FILE,
     "--set post.delivery.port: 'x' does not fit: expected 'int', got 'str' (Where)"),
    (["delivery=off"], FILE, "--set post.delivery: 'off' does not fit: expected a table, whose"),
    (["hosts.sink=off"], FILE, "--set post.hosts.sink: post.hosts.sink is a table; name one of"),
    (["hosts.=1"], FILE, "--set post.hosts.: [post.hosts] has no setting ''"),
    (["codes.a=hunter2"], FILE, "--set post.codes.a: the value does not fit: expected 'int'"),
    (["hosts.new.tls=false"], FILE,
     "--set post.hosts.new.tls: [post.hosts.new] needs 'connect': Where it is."),
    (["hosts.sink.user_name=root"], FILE,
     "--set post.hosts.sink.user_name: [post.hosts.sink]: nobody is root"),
    (["delivery.port=1"], {"delivery": 5}, "gateway.toml: post.delivery: post.delivery is no table"),
    ([], {"hosts": {"sink": {**SINK, "tsl": True}}},
     "gateway.toml: [post.hosts.sink] has no setting 'tsl'; did you mean 'tls'?"),
    (["hosts.sink.tls=1"], {"hosts": {"sink": {**SINK, "tsl": True}}},
     "gateway.toml: [post.hosts.sink] has no setting 'tsl'; did you mean 'tls'?"),
    ([], {"hosts": {"sink": {}}}, "gateway.toml: [post.hosts.sink] needs 'connect': Where it is."),
    ([], {"hosts": {"sink": {**SINK, "login": {"acount": ""}}}},
     "gateway.toml: [post.hosts.sink.login] has no setting 'acount'; did you mean 'account'?"),
    ([], {"hosts": {"sink": {**SINK, "password": 20302030}}},
     "gateway.toml: post.hosts.sink.password: the value does not fit: expected 'str'"),
    ([], {"hosts": {"sink": 5}}, "gateway.toml: post.hosts.sink: the value does not fit: expected a"),
    ([], {"others": [{}, {"port": 0}]},
     "gateway.toml: post.others[1].port: 0 does not fit: expected 'int' >= 1 (Where)"),
    ([], {"hosts": {"sink": {**SINK, "user_name": "root"}}},
     "gateway.toml: [post.hosts.sink]: nobody is root"),
]  # fmt: skip


@pytest.mark.parametrize(("assignments", "file", "says"), WRONG, ids=range(len(WRONG)))
def test_wrong(assignments, file, says):
    """What is wrong says who said it, in which table it is, and what it should be."""
    with pytest.raises(ConfigError) as caught:
        post(*assignments, file=file)
    assert str(caught.value).startswith(says)
    assert "hunter2" not in str(caught.value)
    assert "20302030" not in str(caught.value)


def test_wrong_variables():
    """A variable that is nearly right is told in which table, and does not become a new name."""
    with pytest.raises(ConfigError) as caught:
        post(HOSTS_SINK_PASWORD="hunter2")
    assert str(caught.value) == (
        "GATEWAY_POST_HOSTS_SINK_PASWORD: [post.hosts.sink] has no setting 'pasword'; did you mean "
        "'password'?"
    )
