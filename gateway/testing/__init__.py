"""Public test kit: `LayerSuite` for layers, `PluginSuite` for plugins, stages, fakes."""

import sys

if "pytest" in sys.modules:
    sys.modules["pytest"].register_assert_rewrite(
        "gateway.testing.layer_suite", "gateway.testing.stage"
    )
