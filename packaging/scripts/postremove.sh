#!/bin/sh
# After a removal.
case "${1:-}" in
0 | remove | purge) ;;
*) exit 0 ;;
esac

# Made by tmpfiles.d and empty now; and the on-start script's log and package.
rmdir /run/nbidentityd /var/lib/nbidentityd 2>/dev/null || :
rm -rf /run/nbidentityd-lifecycle

if [ "$1" != purge ] && [ -d /run/systemd/system ]; then
  systemctl --system daemon-reload || :
fi
exit 0
