"""Public test kit: `LayerSuite` for layers, `PluginSuite` for plugins, fakes."""

import pytest

pytest.register_assert_rewrite("gateway.testing.layer_suite")
