"""Reads {"cases": [{"before", "after"}]} and tells how botocore sees each text.

Answers {"version": ..., "cases": [{"before": view, "after": view}]}. A view has
"error", or "sections" (the parsed file) and the default profile's "method" of
getting credentials, its "key" and its "region". No network is used.
"""
import json
import os
import sys
import tempfile

for name in list(os.environ):
    if name.startswith("AWS_"):
        del os.environ[name]
os.environ["AWS_EC2_METADATA_DISABLED"] = "true"

import botocore
import botocore.configloader
import botocore.credentials
import botocore.session


def view(path, text, resolve):
    if text is None:
        return None
    with open(path, "wb") as f:
        f.write(text.encode("utf-8", "surrogateescape"))
    try:
        sections = botocore.configloader.raw_config_parse(path, parse_subsections=False)
        botocore.configloader.load_config(path)
    except Exception as e:
        return {"error": f"{type(e).__name__}: {e}"}
    out = {"sections": sections}
    if resolve:
        session = botocore.session.Session()
        session.set_config_variable("config_file", path)
        session.set_config_variable("credentials_file", os.devnull)
        try:
            got = session.get_credentials()
            out["method"] = got and got.method
            out["key"] = got.get_frozen_credentials().access_key if got and got.method == "custom-process" else ""
        except Exception as e:
            out["method"] = type(e).__name__
        out["region"] = session.get_config_variable("region")
        out["sts"] = session.get_config_variable("sts_regional_endpoints")
    return out


def main():
    request = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as tmp:
        path = os.path.join(tmp, "config")
        cases = [
            {side: view(path, c.get(side), request.get("resolve", False)) for side in ("before", "after")}
            for c in request["cases"]
        ]
    json.dump({"version": botocore.__version__, "cases": cases}, sys.stdout)


main()
