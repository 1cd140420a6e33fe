"""The catalogue on PyPI's `inngest` with Flask and plain handlers, under a threaded WSGI server."""

from __future__ import annotations

import logging
import os
from typing import Any

import flask
import inngest
import inngest.flask
from werkzeug.serving import make_server

from tests.interop.sdk import journal
from tests.interop.sdk.catalogue_plain import catalogue

app = flask.Flask(__name__)
client = inngest.Inngest(app_id=os.environ.get("APP_ID", "py-flask"), logger=journal.logger())
inngest.flask.serve(app, client, catalogue(client).functions)


@app.get("/journal")
def read_journal() -> Any:
    return flask.jsonify(journal.read(flask.request.args["key"]))


@app.post("/send")
def send() -> Any:
    return flask.jsonify(client.send_sync([inngest.Event(**event) for event in flask.request.get_json()]))


if __name__ == "__main__":
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = make_server("127.0.0.1", int(os.environ.get("PORT", "0")), app, threaded=True)
    print(f"app listens on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
