"""The peer in Python: the same service as a Flask application, as one writes it first. PORT, REDIS_PORT, CAPACITY."""

import collections
import logging
import os
import threading
import time

import flask
import redis
import waitress

CAPACITY = int(os.environ["CAPACITY"])
GLOBAL_EXPIRY_S = 3600

app = flask.Flask(__name__)
upstream = redis.Redis(port=int(os.environ["REDIS_PORT"]))
entries = collections.OrderedDict()
lock = threading.Lock()


def lookup(key):
    with lock:
        value, fetched = entries.get(key, (None, 0))
        if value is not None and time.monotonic() - fetched < GLOBAL_EXPIRY_S:
            entries.move_to_end(key)
            return value
    value = upstream.get(key)
    if value is not None:
        with lock:
            entries[key] = value, time.monotonic()
            entries.move_to_end(key)
            if len(entries) > CAPACITY:
                entries.popitem(last=False)
    return value


@app.get("/<path:key>")
def get(key):
    value = lookup(key)
    if value is None:
        flask.abort(404)
    return flask.Response(value, mimetype="text/plain")


# Flask's own server closes every connection.
logging.getLogger("waitress").setLevel(logging.ERROR)
waitress.serve(app, host="127.0.0.1", port=int(os.environ["PORT"]))
