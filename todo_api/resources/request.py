"""The request that the handlers of resources get."""

from todo_api.http.bodies import StrictRequest
from todo_api.queries import Queries


class ResourceRequest(StrictRequest):
    """A request with access to the queries. A Litestar dependency would cost several times as much."""

    @property
    def queries(self) -> Queries:
        """Runs the statements of the application's database."""
        queries: Queries = self.app.state["queries"]  # `state.queries` takes seven times as long
        return queries
