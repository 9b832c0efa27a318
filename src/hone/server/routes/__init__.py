"""The protocol's endpoints, one file for each kind of thing; all paths are under `/api/v1`."""

from starlette.routing import Route

from hone.server.routes import (
    audit,
    auth,
    billing,
    checkpoints,
    client_config,
    custom_losses,
    downloads,
    futures,
    health,
    models,
    runs,
    sampling,
    sessions,
    telemetry,
    traces,
    training,
    weights,
)

# They are tried in this order, so what every step of a training asks comes first.
routes: list[Route] = [
    *training.routes,
    *futures.routes,
    *sampling.routes,
    *sessions.routes,
    *client_config.routes,
    *health.routes,
    *models.routes,
    *weights.routes,
    *custom_losses.routes,
    *downloads.routes,
    *checkpoints.routes,
    *runs.routes,
    *telemetry.routes,
    *auth.routes,
    *billing.routes,
    *audit.routes,
    *traces.routes,
]
