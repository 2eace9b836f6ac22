"""An answer that takes its time, and a thread with it: what others feel of it is the lesson."""

import math
import time

from flask import Blueprint, Response, jsonify, make_response, request
from werkzeug.exceptions import BadRequest

from backend.controller.answers import wants_json
from backend.controller.caching import personal

blueprint = Blueprint("slow", __name__)

_MAX_S = 30.0
_DEFAULT = "3"


@blueprint.get("/slow")
def slow() -> Response:
    """Answer after ?seconds=, from 0 to 30."""
    try:
        seconds = float(request.args.get("seconds", _DEFAULT))
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= _MAX_S:  # also true of NaN
        raise BadRequest(f"“seconds” is a number from 0 to {_MAX_S:.0f}.")
    began_at = time.monotonic()
    time.sleep(seconds)
    took_s = round(time.monotonic() - began_at, 3)
    if wants_json():
        response = jsonify(asked_s=seconds, took_s=took_s)
    else:
        response = make_response(f"Here after {took_s} seconds; a thread waited all the while.\n")
        response.mimetype = "text/plain"
    response.vary.add("Accept")
    return personal(response)
