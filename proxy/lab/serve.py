"""Serves an application with Werkzeug's or gevent's server, as a person would alone.

    python -m proxy.lab.serve {werkzeug|gevent} PORT

They have no command of their own that serves any WSGI application. Waitress and gunicorn have.
"""

import sys


def main(server: str, port: int) -> None:
    """Serve until a signal ends it, with what the server does by default, its log included."""
    if server == "gevent":
        from gevent import monkey

        monkey.patch_all()
    from proxy.lab.application import from_environment

    application = from_environment()
    if server == "gevent":
        from gevent.pywsgi import WSGIServer

        WSGIServer(("127.0.0.1", port), application).serve_forever()
    else:
        from werkzeug.serving import run_simple

        run_simple("127.0.0.1", port, application, threaded=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
