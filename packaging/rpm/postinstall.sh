# What %systemd_post and %sysusers_create_package come to.
systemd-sysusers tcp-close.conf || :
if [ "$1" -eq 1 ] && [ -x /usr/bin/systemctl ]; then
    systemctl --no-reload preset tcp-close.socket tcp-close.service || :
fi
