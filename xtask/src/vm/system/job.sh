#!/bin/bash
# What an administrator does with the package, and what must come of it: a line for each assertion, the number of those
# that failed as the status.
set -u
export LC_ALL=C PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin SYSTEMD_PAGER= SYSTEMD_COLORS=0
failed=0

# The rest of the words must succeed.
must() {
    local what=$1 said
    shift
    if said=$("$@" 2>&1); then
        echo "ok      $what"
    else
        failed=$((failed + 1))
        printf 'FAILED  %s\n%s\n' "$what" "$said"
    fi
}

# Waits for the rest of the words to succeed, 20 s and as long as they take themselves.
soon() {
    local what=$1 try
    shift
    for try in $(seq 200); do
        if "$@" >/dev/null 2>&1; then break; fi
        sleep 0.1
    done
    must "$what" "$@"
}

same() { [[ $1 == "$2" ]] || { echo "expected: $2"; echo "there is: $1"; return 1; }; }
holds() { [[ $1 == *"$2"* ]] || { echo "expected: $2"; echo "there is: $1"; return 1; }; }
not() { ! "$@"; }
chapter() { printf '\n== %s\n' "$1"; }
property() { systemctl show -P "$1" tcp-close.service; }
pid() { property MainPID; }
is_another() { [[ $(pid) != 0 && $(pid) != "$1" ]] && systemctl -q is-active tcp-close.service; }
metric() { curl -sS http://127.0.0.1:10060/metrics | sed -n "s/^$1 //p"; }

# Which are some, for somebody has just asked.
waits_are_as_the_kernel_counts() {
    local ours kernels
    curl -sS -o /dev/null http://127.0.0.1:10060/healthz
    ours=$(tcp-close list -o json 'state time-wait' | wc -l)
    kernels=$(ss -tanH state time-wait | wc -l)
    ((ours > 0)) && same "$ours" "$kernels"
}

# One line for each thread of the daemon that differs: whatever a thread is not meant to hold, it must not hold.
privileges_are() {
    local expected=$1 task there
    for task in /proc/"$(pid)"/task/*; do
        there=$(sed -n 's/^\(Cap...\|NoNewPrivs\|Seccomp\):\t/\1=/p' "$task/status" | tr '\n' ' ')
        same "$there" "$expected " || return
    done
}

# CAP_DAC_READ_SEARCH 2, SYS_PTRACE 19, SYS_ADMIN 21, PERFMON 38, BPF 39.
bounds='CapBnd=000000c000280004 CapAmb=0000000000000000 NoNewPrivs=1 Seccomp=2'
full="CapInh=0000000000000000 CapPrm=0000008000280004 CapEff=0000008000280004 $bounds"
least="CapInh=0000000000000000 CapPrm=0000008000000000 CapEff=0000008000000000 ${bounds/280004/000000}"

chapter 'The package is installed'
dpkg --install /job/tcp-close.deb | grep -v Reading
must 'the service runs' systemctl is-active tcp-close.service
must 'its sockets listen' systemctl is-active tcp-close.socket
must 'both begin with the system' systemctl is-enabled tcp-close.service tcp-close.socket
must 'it has a user of its own' same "$(ps -o user:20= -p "$(pid)")" tcp-close
must 'each thread holds what is documented' privileges_are "$full"
must 'it is ready' same "$(curl -sS -o /dev/null -w '%{http_code}' http://127.0.0.1:10060/readyz)" 200
# Of what this kernel does not have, it complains once.
must 'nothing else is wrong' same "$(journalctl -u tcp-close -p warning -q --no-pager -o cat | cut -d ';' -f 1)" \
    'hook reset_sent is degraded'
must 'its units make sense' systemd-analyze verify --man=no tcp-close.service tcp-close.socket
systemctl status --no-pager --full tcp-close.service
systemctl status --no-pager --full tcp-close.socket
journalctl -u tcp-close --no-pager
must 'what it tells the journal has fields' holds "$(journalctl -u tcp-close -o export --no-pager | tr -d '\0')" TCP_CLOSE_
systemd-analyze security tcp-close.service --no-pager | tail -n 1
must 'it lays open no more than is documented' systemd-analyze security --threshold=21 tcp-close.service

chapter 'Connections close'
before=$(metric 'tcp_close_endpoints_closed_total{manner="graceful",role="active"}')
systemd-socket-activate --accept --inetd --listen 127.0.0.1:8080 sh -c 'cat >/dev/null' 2>/dev/null &
server=$!
soon 'a server listens' bash -c 'echo >/dev/tcp/127.0.0.1/8080'
for _ in $(seq 20); do echo hello >/dev/tcp/127.0.0.1/8080; done
closed() { (($(metric 'tcp_close_endpoints_closed_total{manner="graceful",role="active"}') >= ${before:-0} + 20)); }
soon 'each close is counted' closed
kill "$server"
useradd --groups tcp-close member
useradd stranger
must 'a member of the group asks it' holds \
    "$(runuser -u member -- tcp-close list --ended --since 10m 'dport = :8080' 2>&1)" 127.0.0.1:8080
must 'somebody else may not' holds "$(runuser -u stranger -- tcp-close list --ended 2>&1)" group
runuser -u member -- tcp-close list --ended --since 10m 'dport = :8080' | head -n 4
runuser -u stranger -- tcp-close list --ended
soon 'TIME-WAITs are as many as the kernel counts' waits_are_as_the_kernel_counts

chapter 'A Prometheus scrapes it'
mkdir -p /etc/systemd/system/tcp-close.socket.d
printf '[Socket]\nListenStream=\nListenStream=/run/tcp-close/tcp-close.sock\nListenStream=10060\n' \
    >/etc/systemd/system/tcp-close.socket.d/override.conf
systemctl daemon-reload
must 'sockets are made anew with another address' systemctl restart tcp-close.service tcp-close.socket
# Counted by the daemon that is scraped: the one before has taken its figures with it.
for _ in $(seq 20); do curl -sS -o /dev/null http://127.0.0.1:10060/healthz; done
ip address add 10.0.2.15/24 dev eth0
ip link set eth0 up
echo VM-SCRAPE
must 'somebody was there' timeout 120 nc -l 10.0.2.15 9999

chapter 'It hangs'
mkdir -p /etc/systemd/system/tcp-close.service.d
printf '[Service]\nWatchdogSec=3s\n' >/etc/systemd/system/tcp-close.service.d/watchdog.conf
systemctl daemon-reload
systemctl restart tcp-close.service
was=$(pid)
sleep 7
must 'where nothing happens it goes on' same "$(pid) $(property NRestarts)" "$was 0"
kill -STOP "$was"
soon 'stopped, it is started anew' is_another "$was"
must 'by the watchdog' holds "$(journalctl -u tcp-close --no-pager -o cat)" 'Watchdog timeout'
rm /etc/systemd/system/tcp-close.service.d/watchdog.conf
systemctl daemon-reload

chapter 'It is killed'
was=$(pid)
kill -KILL "$was"
soon 'it is started anew' is_another "$was"
# What the first one remembered is gone; what is closing stands in the kernel's table.
soon 'and knows what is closing' waits_are_as_the_kernel_counts

chapter 'The least of privileges'
cp /job/least-privilege.conf /etc/systemd/system/tcp-close.service.d/
systemctl daemon-reload
must 'it starts' systemctl restart tcp-close.service
must 'each thread holds what is documented' privileges_are "$least"
must 'it lays open less' systemd-analyze security --threshold=15 tcp-close.service
journalctl -u tcp-close --no-pager -p warning -q
rm -r /etc/systemd/system/tcp-close.service.d
systemctl daemon-reload

chapter 'An upgrade'
echo TCP_CLOSE_TOP=7 >>/etc/default/tcp-close
systemctl restart tcp-close.service
was=$(pid)
dpkg-deb --raw-extract /job/tcp-close.deb /job/next
sed -i 's/^Version: .*/&.1/' /job/next/DEBIAN/control
dpkg-deb --build /job/next /job/next.deb >/dev/null
dpkg --install /job/next.deb | grep -v Reading
must 'the new one runs' is_another "$was"
must 'each thread holds what is documented' privileges_are "$full"
must 'settings are as they were changed' grep -qx TCP_CLOSE_TOP=7 /etc/default/tcp-close
must 'it was switched on once' same "$(systemctl is-enabled tcp-close.service)" enabled

chapter 'It is stopped'
must 'with its sockets' systemctl stop tcp-close.socket tcp-close.service
must 'as it should' same "$(property Result) $(property ExecMainStatus)" 'success 0'
must 'nobody answers' not curl -sS http://127.0.0.1:10060/metrics
systemctl start tcp-close.socket
must 'a question starts it' holds "$(curl -sS --retry 20 --retry-delay 1 --retry-all-errors -f \
    http://127.0.0.1:10060/metrics)" tcp_close_

chapter 'It is removed'
systemctl start tcp-close.service
rm -r /etc/systemd/system/tcp-close.socket.d
dpkg --remove tcp-close | grep -v Reading
must 'it is gone' not pgrep -x tcp-close
must 'nobody listens' not curl -sS http://127.0.0.1:10060/metrics
must 'settings are kept' test -e /etc/default/tcp-close
dpkg --purge tcp-close | grep -v Reading
must 'nothing is left' same "$(find / -xdev \( -path /job -o -path /proc -o -path /sys \) -prune -o \
    -name '*tcp-close*' -print)" ''
must 'nor in /run' same "$(find /run -name '*tcp-close*' -not -path '/run/log/*')" ''
must 'systemd has nothing to complain of' same "$(systemctl --failed --no-legend --plain)" ''
must 'nor has the kernel' same "$(cat /proc/sys/kernel/tainted)" 0

exit "$failed"
