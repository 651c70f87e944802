# What %systemd_preun comes to: only when it is removed, not over an upgrade.
if [ "$1" -eq 0 ] && [ -x /usr/bin/systemctl ]; then
    systemctl --no-reload disable --now tcp-close.socket tcp-close.service || :
fi
