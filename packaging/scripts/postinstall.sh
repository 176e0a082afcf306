#!/bin/sh
# After an install or an upgrade. rpm says how many versions there are now, dpkg
# says what it does. Nothing is enabled or started; what runs, runs on with the
# new version. Nothing here may fail the package.
case "${1:-}" in
[1-9]* | configure | abort-*) ;;
*) exit 0 ;;
esac

if command -v systemd-tmpfiles >/dev/null 2>&1; then
  systemd-tmpfiles --create nbidentityd.conf || :
fi
if [ -d /run/systemd/system ]; then
  systemctl --system daemon-reload || :
  # The sockets stay: calls wait in their queue for the new version.
  systemctl try-restart nbidentityd.service || :
fi
exit 0
