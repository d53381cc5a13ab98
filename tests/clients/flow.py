"""What the Python programs share: the choice of a flow by its name, and what a flow may ask of the test that runs it.

A line on standard output that begins with "> " is such a question, and the next line of standard input its answer:
`> restart` kills the server and starts it anew, `> server NAME VALUE ...` starts another one with these directives and
`> replica` a replica of the first, and both answer with a port. Every other line is for whoever reads a failure.
"""

import sys
import time


def ask(*words):
    print(">", *words, flush=True)
    answer = sys.stdin.readline().strip()
    assert answer, f"no answer to {words}"
    return answer


def port():
    """Where the server of this flow listens."""
    return int(sys.argv[2])


def chosen(flows):
    """The flow of the command line, from the names of a program's module."""
    flow = flows.get(sys.argv[1])
    if flow is None:
        sys.exit(f"no flow is named {sys.argv[1]}")
    return flow


def eventually(condition, what, seconds=20):
    """Waits until a condition holds; names it when it does not come."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain: {what}"
        time.sleep(0.005)


def raises(kind, text, call, *args):
    """The call fails with exactly this class of error, whose message begins so."""
    try:
        value = call(*args)
    except Exception as error:
        assert type(error) is kind, f"{type(error)} {error}, expected {kind}"
        assert str(error).startswith(text), f"{error!r} does not begin with {text!r}"
    else:
        raise AssertionError(f"{value!r} instead of {kind} {text}")
