"""Public test kit: `LayerSuite` for layers, `PluginSuite` for plugins, fakes."""
