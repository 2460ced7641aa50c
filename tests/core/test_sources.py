"""Settings from all sources, and the errors that name them."""

from __future__ import annotations

from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.annotated import description
from gateway.core.config import GatewaySettings, LayerSettings, Settings, WorkerSettings
from gateway.core.errors import ConfigError
from gateway.core.layers.options import LayerOptions
from gateway.core.sources import Sources, find_file


class Shop(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    listen: str | tuple[str, ...] = "8000"
    paths: tuple[str, ...] = ("/",)
    ratio: Annotated[float, msgspec.Meta(ge=0, description="How much. Of what.")] = 1.0
    on: bool = False
    password: Annotated[str, msgspec.Meta(extra={"secret": True})] = ""
    limits: dict[str, int] = {}


class Branch(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    town: str = ""
    key: Annotated[str, msgspec.Meta(extra={"secret": True})] = ""


class Chain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    branches: dict[str, Branch] = {}
    main: Branch | None = None
    others: tuple[Branch, ...] = ()


class Pair(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    broker: Annotated[str, msgspec.Meta(description="Whom to join.")]
    low: int = 0
    high: int = 1

    def __post_init__(self):
        if self.low > self.high:
            raise ValueError("low is over high")


PLUGINS = {"shop": Shop}


def shop(*assignments, environ=None, tables=None):
    sources = Sources()
    if tables is not None:
        sources.add_tables(tables, "gateway.toml")
    sources.add_environment(environ or {}, PLUGINS)
    for assignment in assignments:
        sources.add_assignment(assignment)
    return sources.settings(PLUGINS, ["mqtt"]).tables["shop"]


def test_defaults():
    """Without any source everything is at its default."""
    sources = Sources()
    assert sources.settings({}) == Settings()
    assert sources.plugins() == (("http", "websocket"), "default")


def test_rising_order(tmp_path):
    """Command line wins over environment, environment over file, file over the application."""
    file = tmp_path / "gateway.toml"
    file.write_text(
        "plugins = ['b']\n[workers]\ncount = 2\nthreads = 2\nasync_limit = 2\n[shop]\nratio = 2"
    )
    sources = Sources()
    sources.add_tables(
        {
            "plugins": ["a"],
            "workers": {"count": 1, "threads": 1, "async_limit": 1, "grace": 1},
            "shop": {"ratio": 1, "on": True},
        },
        "Django settings",
    )
    sources.add_file(file)
    sources.add_environment(
        {"GATEWAY_WORKERS_COUNT": "3", "GATEWAY_WORKERS_THREADS": "3", "GATEWAY_PLUGINS": "c, d"},
        PLUGINS,
    )
    sources.add_assignment("workers.count=4")
    settings = sources.settings(PLUGINS)
    assert settings.workers == WorkerSettings(count=4, threads=3, async_limit=2, grace=1.0)
    assert settings.tables["shop"] == Shop(ratio=2.0, on=True)
    assert sources.plugins() == (("c", "d"), "GATEWAY_PLUGINS")
    assert settings.plugins == ("c", "d")
    origins = {row.key: row.origin for row in sources.rows("workers", settings.workers)}
    assert origins.pop("workers.stand_ins") == "default"
    assert {key: origin for key, origin in origins.items() if origin != "default"} == {
        "workers.count": "--set workers.count",
        "workers.threads": "GATEWAY_WORKERS_THREADS",
        "workers.async_limit": f"{file}: workers.async_limit",
        "workers.grace": "Django settings: workers.grace",
    }


@pytest.mark.parametrize(
    ("text", "field", "value"),
    [
        ("listen=8000", "listen", ("8000",)),
        ("listen=127.0.0.1:8000,[::1]:8000", "listen", ("127.0.0.1:8000", "[::1]:8000")),
        ('listen=["a,b"]', "listen", ("a,b",)),
        ("paths=/a, /b", "paths", ("/a", "/b")),
        ("paths=", "paths", ()),
        ("paths=[]", "paths", ()),
        ("ratio=2", "ratio", 2.0),
        ("ratio=2.5", "ratio", 2.5),
        ("on=true", "on", True),
        ("on=1", "on", True),
        ("password=1234", "password", "1234"),
        ("password=a=b", "password", "a=b"),
        ('password="quoted"', "password", "quoted"),
        ("password=", "password", ""),
        ("limits={a=1}", "limits", {"a": 1}),
    ],
)
def test_text(text, field, value):
    """A text is the TOML value that fits, else a list by commas, else itself."""
    assert getattr(shop(f"shop.{text}"), field) == value
    key, _, rest = text.partition("=")
    assert getattr(shop(environ={f"GATEWAY_SHOP_{key.upper()}": rest}), field) == value


@given(st.text())
def test_any_text_is_a_string(text):
    """Whatever text is given for a str setting is taken, or read as a quoted TOML string."""
    value = shop(f"shop.password={text}").password
    assert value == text or text.strip()[:1] in {"'", '"'}


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ("shop.lisen=1", r"--set shop\.lisen: \[shop\] has no setting 'lisen'; .* 'listen'\?"),
        ("shop.zzzzzz=1", r"has no setting 'zzzzzz'; known are limits, listen"),
        ("shp.listen=1", r"--set shp\.listen: there is no table 'shp'; did you mean 'shop'\?"),
        ("shop.ratio=x", r"--set shop\.ratio: 'x' does not fit: expected 'float'.*\(How much\)"),
        ("shop.ratio=-1", r"expected 'float' >= 0"),
        ("log.format=xml", r"--set log\.format: 'xml' does not fit: expected 'text' or 'json'"),
        ("shop", r"expected table\.key=value"),
        ("shop.ratio", r"expected table\.key=value"),
        ("=1", r"expected table\.key=value"),
        ("layer.socket_mode=rw", r"layer\.socket_mode"),
    ],
)
def test_wrong_option(assignment, says):
    """A wrong option is refused with source, key and remedy."""
    with pytest.raises(ConfigError, match=says):
        shop(assignment)


def test_secrets_stay_out_of_errors():
    """The value of a secret setting appears neither in errors nor in the rows that are shown."""
    with pytest.raises(ConfigError) as caught:
        shop(tables={"shop": {"password": 20302030}})
    assert "20302030" not in str(caught.value)
    sources = Sources()
    sources.add_assignment("shop.password=hunter2")
    rows = sources.rows("shop", sources.settings(PLUGINS).tables["shop"])
    assert "hunter2" not in str(list(rows))


def test_secrets_within_settings_stay_out_of_errors():
    """So it is with a secret within a table of a table; what stands beside it is shown."""
    branch = {"town": "York", "key": "hunter2"}
    tables = {"chain": {"branches": {"a": branch}, "main": branch, "others": [branch]}}
    sources = Sources()
    sources.add_tables(tables, "gateway.toml")
    plugins = {"chain": Chain}
    rows = str(list(sources.rows("chain", sources.settings(plugins).tables["chain"])))
    assert "hunter2" not in rows
    assert rows.count("York") == 3
    sources.add_tables({"chain": {"branches": {"a": {**branch, "town": 7}}}}, "gateway.toml")
    with pytest.raises(ConfigError) as caught:
        sources.settings(plugins)
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("tables", "says"),
    [
        ({"threads": 3}, r"gateway\.toml: 'threads' stands outside .*'workers\.threads'\?"),
        ({"workers": {"count": "x"}}, r"gateway\.toml: workers\.count: 'x' does not fit"),
        ({"wrkers": {"count": 1}}, r"gateway\.toml: wrkers\.count: there is no table 'wrkers'"),
        ({"plugins": "http"}, r"gateway\.toml: plugins: expected a list of plugin names"),
        ({"plugins": [1]}, r"gateway\.toml: plugins: expected a list of plugin names"),
    ],
)
def test_wrong_tables(tables, says):
    """A wrong file or Django setting is refused with source, key and remedy."""
    with pytest.raises(ConfigError, match=says):
        shop(tables=tables)


def test_tables_of_other_plugins_are_left_alone():
    """The table of a plugin that is installed and not asked for is no mistake."""
    assert shop(tables={"mqtt": {"broker": "x"}}) == Shop()


def test_foreign_variables():
    """A variable with the prefix that names no table is left alone, with a warning."""
    sources = Sources()
    sources.add_environment({"GATEWAY_INTERFACE": "CGI/1.1", "PATH": "/bin"}, PLUGINS)
    assert sources.settings(PLUGINS) == Settings(tables={"shop": Shop()})
    assert sources.warnings == ["GATEWAY_INTERFACE: names no table of the gateway's; ignored"]


def test_nearly_right_variables():
    """A variable whose table is nearly right is refused with the right one."""
    with pytest.raises(ConfigError, match=r"GATEWAY_WORKER_COUNT: .*mean GATEWAY_WORKERS_COUNT\?"):
        shop(environ={"GATEWAY_WORKER_COUNT": "1"})
    with pytest.raises(ConfigError, match=r"GATEWAY_SHOP_LISEN: \[shop\] has no setting 'lisen'"):
        shop(environ={"GATEWAY_SHOP_LISEN": "1"})


def test_names_with_dashes():
    """The variable of a plugin with a dash in its name has an underscore there."""
    sources = Sources()
    sources.add_environment({"GATEWAY_CORNER_SHOP_ON": "true"}, ["corner-shop"])
    assert sources.settings({"corner-shop": Shop}).tables["corner-shop"] == Shop(on=True)


def test_required_setting():
    """A setting without default that nobody gave stops the start, with where to put it."""
    with pytest.raises(ConfigError, match=r"\[pair\] needs .*'broker'.*GATEWAY_PAIR_BROKER \(Whom"):
        Sources().settings({"pair": Pair})


def test_settings_that_do_not_fit_each_other():
    """What a struct checks over several settings is told with the table and its sources."""
    sources = Sources()
    sources.add_assignment("pair.low=5")
    sources.add_assignment("pair.broker=x")
    with pytest.raises(ConfigError, match=r"\[pair\] \(--set pair\.low.*\): low is over high"):
        sources.settings({"pair": Pair})


@pytest.mark.parametrize("content", ["[shop\n", "\xff"])
def test_broken_file(tmp_path, content):
    """A file that is no TOML is refused by its name."""
    file = tmp_path / "gateway.toml"
    file.write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"gateway\.toml: is not TOML"):
        Sources().add_file(file)


def test_missing_file(tmp_path):
    """A file that is not there is refused by its name."""
    with pytest.raises(ConfigError, match=r"none\.toml: cannot be read: No such file"):
        Sources().add_file(tmp_path / "none.toml")


def test_pyproject(tmp_path):
    """Of a pyproject.toml the table [tool.gateway] counts, if there is one."""
    first, second = tmp_path / "a", tmp_path / "b"
    for directory in (first, second):
        directory.mkdir()
    (first / "pyproject.toml").write_text("[tool.other]\n")
    assert find_file([first, second]) is None
    file = second / "pyproject.toml"
    file.write_text("[tool.gateway.shop]\nratio = 3\n")
    assert find_file([first, second]) == file
    sources = Sources()
    sources.add_file(file)
    assert sources.settings(PLUGINS).tables["shop"] == Shop(ratio=3.0)
    (second / "gateway.toml").write_text("")
    assert find_file([first, second]) == second / "gateway.toml"


def test_every_setting_of_the_core_is_described():
    """Each of the core's own settings has a description that says what it is."""
    for struct in (WorkerSettings, GatewaySettings, LayerSettings):
        own = struct.__annotations__
        hints = {name: description(kind) for name, kind in _hints(struct).items() if name in own}
        assert all(len(text) > 20 for text in hints.values()), hints


def _hints(struct):
    from typing import get_type_hints

    return get_type_hints(struct, include_extras=True)


def test_layer_options():
    """The layer's table hands on what a layer understands, and nothing else."""
    options = LayerSettings(url="memory://", expiry=5).options()
    assert LayerOptions(**options).expiry == 5


def test_worker_count(monkeypatch):
    """Workers default to one fewer than there are CPUs, at least one."""
    for cpus, count in ((None, 1), (1, 1), (2, 1), (8, 7)):
        monkeypatch.setattr("os.cpu_count", lambda cpus=cpus: cpus)
        assert WorkerSettings().number() == count
    assert WorkerSettings(count=0).number() == 0
