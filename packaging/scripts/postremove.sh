#!/bin/sh
# After a removal.
case "${1:-}" in
0 | remove | purge) ;;
*) exit 0 ;;
esac

if [ "$1" != purge ] && [ -d /run/systemd/system ]; then
  systemctl --system daemon-reload || :
fi
exit 0
