#!/usr/bin/env bash
# Runs the tests of this package that need an engine: DuckDB from PyPI in a virtual
# environment, and Trino's parser from Maven Central, both under /var/cache or the
# user's cache. On CI what cannot be had is a failure, elsewhere it is skipped by name.
set -euo pipefail

duckdb=1.4.4
trino=435 # the last release for Java 17

cache=/var/cache/nbidentityd-athena
[ -w /var/cache ] || cache=${XDG_CACHE_HOME:-$HOME/.cache}/nbidentityd-athena
python=$cache/duckdb-$duckdb/bin/python
jars=$cache/trino-$trino

missing() {
  echo "athena: skipped: $1"
  if [ -n "${CI:-}" ]; then exit 1; fi
}

mkdir -p "$cache"
if ! [ -x "$python" ] || ! "$python" -c 'import duckdb' 2>/dev/null; then
  rm -rf "$cache/duckdb-$duckdb"
  { python3 -m venv "$cache/duckdb-$duckdb" && "$python" -m pip install -q --disable-pip-version-check "duckdb==$duckdb"; } || missing "no DuckDB from PyPI"
fi
if ! compgen -G "$jars/trino-parser-*.jar" >/dev/null; then
  pom=$(mktemp -d)
  trap 'rm -rf "$pom"' EXIT
  cat >"$pom/pom.xml" <<POM
<project><modelVersion>4.0.0</modelVersion><groupId>x</groupId><artifactId>x</artifactId><version>1</version><dependencies>
<dependency><groupId>io.trino</groupId><artifactId>trino-parser</artifactId><version>$trino</version></dependency></dependencies></project>
POM
  mvn -q -B -f "$pom/pom.xml" dependency:copy-dependencies -DoutputDirectory="$jars" || missing "no Trino parser from Maven Central"
fi
[ -x "$python" ] && export NBIDENTITYD_DUCKDB_PYTHON=$python
[ -d "$jars" ] && export NBIDENTITYD_TRINO_JARS=$jars
cd "$(dirname "$0")"
go test -count=1 -v -run 'Trino|Same|Deep|Hostile' . | grep -E '^ *(---|ok|FAIL|PASS)|statements|compared|left'
