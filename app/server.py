"""The HTTP server, and its graceful end."""

import asyncio
from types import FrameType

import uvicorn

from app.main import create_app
from app.settings import Settings

# Seconds an idle connection stays open: longer than the proxy keeps it for reuse (60 in docker-compose.prod.yml),
# so that the proxy never sends a request into a connection that is being closed.
KEEP_ALIVE = 75
# Seconds that requests in flight get to finish; with closing connections the process ends in less than 25.
GRACE = 20


class Server(uvicorn.Server):
    """Ends the feed as soon as a signal arrives.

    uvicorn tells the application of its end only after the last connection is closed, and a stream of events
    never closes by itself.
    """

    def __init__(self, settings: Settings) -> None:
        """Make the application from `settings` and get ready to serve it."""
        app = create_app(settings)
        self._feed = app.state.resources.feed
        config = uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            loop="uvloop",
            http="httptools",
            ws="websockets-sansio",
            # The application writes its own lines, as JSON.
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE,
            timeout_graceful_shutdown=GRACE,
        )
        super().__init__(config)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Take a signal: streams end at once, requests in flight finish, new connections are refused."""
        # Through the loop: a signal handler may run between any two lines of the code that uses the feed.
        asyncio.get_running_loop().call_soon_threadsafe(self._feed.end)
        super().handle_exit(sig, frame)
