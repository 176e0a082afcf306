#!/bin/sh
# usage: supervise.sh DIR
#
# Keeps one nbidentityd running where there is no systemd: DIR/bin/nbidentityd
# with DIR/nbidentityd.toml. It starts it again when it fails, at once and then
# after 1, 2, 4 … 60 seconds. It ends on SIGTERM, and when the daemon ends with
# success: it has stepped aside, and DIR/aside says why. One supervisor at a time
# holds DIR/lock, which names its process. DIR/nbidentityd.log keeps the last
# megabyte or two. DIR/nbidentity, DIR/doctor and DIR/uninstall are for people:
# no directory of their PATH is ours to write.
set -u
dir=$1
log=$dir/nbidentityd.log
log_limit=${NBIDENTITY_LOG_LIMIT:-1000000} # bytes; as much again in log.1
exec </dev/null >>"$log" 2>&1 9>>"$dir/lock"
flock -n 9 || exit 0
echo $$ >"$dir/lock"
rm -f "$dir/aside"
printf '#!/bin/sh\nexec %s/bin/nbidentity --socket %s/nbidentityd.sock "$@"\n' "$dir" "$dir" >"$dir/nbidentity"
for word in doctor uninstall; do
  printf '#!/bin/sh\nexec %s/bin/nbidentityd %s -settings %s/nbidentityd.toml "$@"\n' "$dir" "$word" "$dir" >"$dir/$word"
done
chmod 0755 "$dir/nbidentity" "$dir/doctor" "$dir/uninstall"

say() { printf 'nbidentityd: supervisor: %s\n' "$*"; }

# The daemon appends, so its log can be cut while it writes.
bound_log() {
  while sleep 5 && kill -0 $$; do
    if [ "$(wc -c <"$log")" -gt "$log_limit" ]; then
      cp "$log" "$log.1"
      : >"$log"
    fi
  done
}

stopping=0
daemon=
stop() {
  stopping=1
  [ -z "$daemon" ] || kill "$daemon" 2>/dev/null # it may have ended just now
}
trap stop TERM INT
(exec 9>&- && bound_log) & # a redirection of its own would keep a copy of 9
bounder=$!

pause=0
while [ "$stopping" = 0 ]; do
  began=$(date +%s)
  "$dir/bin/nbidentityd" run -settings "$dir/nbidentityd.toml" 9>&- &
  daemon=$!
  [ "$stopping" = 0 ] || kill "$daemon" # by a signal that came between
  wait "$daemon"
  code=$?
  if [ "$stopping" = 1 ]; then
    # The wait ended with the signal. A second one may never end in bash when
    # the daemon ended at the same moment.
    while kill -0 "$daemon" 2>/dev/null; do sleep 0.1; done
    say "stopped"
    break
  fi
  daemon=
  if [ "$code" = 0 ]; then
    reason=$(sed -n 's/.*"stepping aside","reason":"\([^"]*\)".*/\1/p' "$log" | tail -n 1)
    echo "not needed here: ${reason:-the daemon was told to stop}" >"$dir/aside"
    say "the daemon ended with success and is not started again"
    break
  fi
  [ $(($(date +%s) - began)) -lt 60 ] || pause=0
  say "the daemon ended with $code and is started again in $pause s"
  sleep "$pause" 9>&- &
  wait $!
  pause=$((pause * 2))
  [ "$pause" -ge 1 ] || pause=1
  [ "$pause" -le 60 ] || pause=60
done
kill "$bounder"
