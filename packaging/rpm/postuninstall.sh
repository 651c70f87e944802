# What %systemd_postun_with_restart comes to: over an upgrade, the new one takes over if the old one ran.
if [ -d /run/systemd/system ]; then
    systemctl --system daemon-reload || :
    if [ "$1" -ge 1 ]; then
        systemctl try-restart tcp-close.socket tcp-close.service || :
    fi
fi
