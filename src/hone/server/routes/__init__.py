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

routes: list[Route] = [
    *client_config.routes,
    *health.routes,
    *sessions.routes,
    *models.routes,
    *training.routes,
    *weights.routes,
    *custom_losses.routes,
    *sampling.routes,
    *futures.routes,
    *downloads.routes,
    *checkpoints.routes,
    *runs.routes,
    *telemetry.routes,
    *auth.routes,
    *billing.routes,
    *audit.routes,
    *traces.routes,
]
