"""Timeline, the demo application: a small microblog in plain Flask, which proxyd runs and fronts.

`model/` holds the data and its rules, `view/` the templates, `controller/` the endpoints;
`wsgi.py` is what a WSGI server loads. Nothing here knows proxyd: what it sees of a request is made
true by the server in front, so there is no ProxyFix.
"""
