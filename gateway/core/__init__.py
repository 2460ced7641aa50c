"""The core: everything that knows no protocol. `plugin` is what plugin authors import."""
