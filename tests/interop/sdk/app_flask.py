"""The catalogue on PyPI's `inngest` with Flask and plain handlers, under a threaded WSGI server; and an app that
encrypts.
"""

from __future__ import annotations

import logging
import os
from typing import Any

import flask
import inngest
import inngest.flask
from inngest_encryption import EncryptionMiddleware
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import make_server

from tests.interop.sdk import journal
from tests.interop.sdk.catalogue_plain import Catalogue, catalogue, data_of
from tests.interop.sdk.declaring import SECOND

ID = os.environ.get("APP_ID", "py-flask")
app = flask.Flask(__name__)
client = inngest.Inngest(app_id=ID, logger=journal.logger())
secret = inngest.Inngest(
    app_id=f"{ID}-secret",
    logger=journal.logger(),
    middleware=[EncryptionMiddleware.factory("not-a-secret")],
)
hidden = Catalogue(secret)


@hidden.add("hides")
def hides(ctx: inngest.ContextSync) -> str:
    found = ctx.step.run("a", lambda: f"{data_of(ctx)['encrypted']['word']} and more")
    ctx.step.sleep("nap", SECOND)
    journal.note(data_of(ctx)["key"], found)
    return found


inngest.flask.serve(app, client, catalogue(client).functions)
# This SDK serves one app to a Flask application.
other = flask.Flask("secret")
inngest.flask.serve(other, secret, hidden.functions)
app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/secret": other.wsgi_app})  # type: ignore[method-assign]


@app.get("/journal")
def read_journal() -> Any:
    return flask.jsonify(journal.read(flask.request.args["key"]))


@app.post("/send")
def send() -> Any:
    return flask.jsonify(client.send_sync([inngest.Event(**event) for event in flask.request.get_json()]))


@app.post("/send-secret")
def send_secret() -> Any:
    return flask.jsonify(secret.send_sync([inngest.Event(**event) for event in flask.request.get_json()]))


if __name__ == "__main__":
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = make_server("127.0.0.1", int(os.environ.get("PORT", "0")), app, threaded=True)
    print(f"app listens on http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()
