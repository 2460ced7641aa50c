"""Public test kit: `LayerSuite` for layers, `PluginSuite` for plugins, stages, fakes."""

import pytest

pytest.register_assert_rewrite(
    "gateway.testing.layer_suite", "gateway.testing.plugin_suite", "gateway.testing.stage"
)
