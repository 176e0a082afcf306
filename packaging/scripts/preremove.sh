#!/bin/sh
# Before a removal, while the program is still there. Upgrades keep everything.
case "${1:-}" in
0 | remove) ;;
*) exit 0 ;;
esac

if [ -d /run/systemd/system ]; then
  systemctl --no-reload disable nbidentityd.service nbidentityd.socket nbidentityd-faces.socket || :
  systemctl stop nbidentityd.socket nbidentityd-faces.socket nbidentityd.service || :
fi
# Everything that install and the daemon made: files in homes, flags, rules, state.
/usr/bin/nbidentityd uninstall || echo "nbidentityd: what uninstall could not undo is still there" >&2
exit 0
