"""The only way in for everything above the service: a `tinker.ServiceClient` on a URL or on an embedded server."""
