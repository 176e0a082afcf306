"""What a notebook does: call AWS through boto3's default chain, again and again.

Each round has a session of its own, as a new kernel does, so that it finds its
credentials anew. One line a round goes to the file named by the argument: when,
"ok" or "failed", how long it took, and the caller's ARN or the error.
"""
import sys
import time

import boto3


def call():
    # Before the daemon nothing on the machine says the region.
    session = boto3.session.Session(region_name="us-east-1")
    return session.client("sts").get_caller_identity()["Arn"]


with open(sys.argv[1], "a", buffering=1) as log:
    while True:
        started = time.time()
        try:
            result = "ok", call()
        except Exception as error:  # whatever it is, the notebook's user sees it
            result = "failed", repr(error)
        print(round(started, 3), result[0], round(time.time() - started, 3), result[1], file=log)
        time.sleep(0.2)
