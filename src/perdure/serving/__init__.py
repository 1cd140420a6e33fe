"""A perdure app as an app that a server of the protocol calls: introspection, sync, and calls, as an ASGI application."""
