"""The protocol's endpoints, one file for each kind of thing; all paths are under `/api/v1`."""

from starlette.routing import Route

from hone.server.routes import (
    checkpoints,
    client_config,
    futures,
    health,
    models,
    runs,
    sampling,
    sessions,
    telemetry,
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
    *sampling.routes,
    *futures.routes,
    *checkpoints.routes,
    *runs.routes,
    *telemetry.routes,
]
