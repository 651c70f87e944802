//! What help says below the options: examples, the language of filters, exit codes.

pub(super) const EXAMPLES: &str = "\
Examples:
  tcp-close watch                  A line per close, as it ends
  tcp-close list                   What is closing now
  tcp-close show                   The last close as a ladder
  tcp-close top                    All of it, on a whole screen
  tcp-close ports                  Whether ephemeral ports run out
  tcp-close daemon                 Metrics at http://127.0.0.1:10060/metrics
  tcp-close check                  What this kernel allows, hook by hook
  tcp-close watch --help           More examples
";

pub(super) const FILTER: &str = "\
FILTER is the language of ss:
  sport, dport   :443, :https, 443             src, dst   192.0.2.0/24, [2001:db8::1]:443
  state          time-wait, FIN_WAIT2          family     ipv4, ipv6
  comm, unit, container, pod, or any of them: owner
  pid, uid, netns, cookie (sk:2b, as ss -e shows it)
  role           active, passive, simultaneous, none
  manner         graceful, reset-sent, reset-received, timed-out, killed, unknown
  cause          expired, reused, recycled, assassinated, purged, killed, ...
  dwell          60s, 1m30s: the longest time in one closing state; of what goes on, its age
with = != < > <= >=, and, or, not, ( ). Of what is not known nothing holds.
";

pub(super) const WATCH_EXAMPLES: &str = "\
Examples:
  tcp-close watch                              Every close on this host
  tcp-close watch 'dport = :443 and dst 192.0.2.0/24 and not comm = curl'
  tcp-close watch 'cause = reused or dwell > 62s'
  tcp-close watch --since 10m                  Those of the last ten minutes first
  tcp-close watch -D 443,5432                  Only connections to these ports
  tcp-close watch --comm nginx -6 -w           Only nginx over IPv6, in full
  tcp-close watch --count 100 -o json | jq .   The next hundred, for a program
  tcp-close watch --transitions                A line per state change
  tcp-close watch --transitions --state last-ack,CLOSE_WAIT
                                               Only changes from or to these
  tcp-close watch -N blue --duration 10s       Network namespace blue, ten seconds

How to read the table:
  …  goes on, and has a line of its own when it ends
  ?  was passed through, but for an unknown time
  -  does not apply, or is not known
";

pub(super) const LIST_EXAMPLES: &str = "\
Examples:
  tcp-close list                               Every socket that is closing
  tcp-close list --state close-wait            Those that their process does not close
  tcp-close list 'state close-wait and dwell > 1h' --sort age
  tcp-close list --by owner                    How many each process has, in which states
  tcp-close list --ended --since 10m owner = nginx.service
  tcp-close list --state time-wait -D 443 -o json | jq .left_seconds
                                               How long each TIME-WAIT has yet to go
";

pub(super) const SHOW_EXAMPLES: &str = "\
Examples:
  tcp-close show                               The last close of all
  tcp-close show 192.0.2.1:51234 192.0.2.2:443
                                               The last of this socket pair
  tcp-close show sk:2b                         That of the socket that ss -e calls so
  tcp-close show 'owner = nginx.service and cause = reused'
                                               The last of which this is so; see list --help
  tcp-close show --follow dport = :443         The next

What the peer's end is said to be in is what its segments imply.
";

pub(super) const TOP_EXAMPLES: &str = "\
Examples:
  tcp-close top                                All of this host
  tcp-close top owner = nginx.service          One service
  tcp-close top --standalone                   Whether there is a daemon or not

Keys: 1-5 and Tab for what is looked at, s to sort, / for a filter, space to
pause, Enter for the ladder of a slow close, ? for all of them, q to quit.
";

pub(super) const PORTS_EXAMPLES: &str = "\
Examples:
  tcp-close ports                              Towards every destination
  tcp-close ports --to 192.0.2.1:443           Towards this one
  tcp-close ports -o json | jq 'select(.exhaustion_seconds != null and .exhaustion_seconds < 300)'
                                               Where there will be none left in five minutes
";

pub(super) const RECORD_EXAMPLES: &str = "\
Examples:
  tcp-close record closes.tcpclose             Until ^C
  tcp-close record closes.tcpclose --duration 5m --watch
                                               And print what happens
  tcp-close record - | ssh host tee closes.tcpclose
";

pub(super) const REPLAY_EXAMPLES: &str = "\
Examples:
  tcp-close replay closes.tcpclose             What watch would have printed
  tcp-close replay closes.tcpclose -o json owner = nginx.service
  tcp-close replay closes.tcpclose --transitions
  tcp-close replay closes.tcpclose --summary   What they come to
";

pub(super) const DAEMON_EXAMPLES: &str = "\
Examples:
  tcp-close daemon                                     Metrics for this host alone
  tcp-close daemon --web.listen-address :10060         For every host that can reach this one
  TCP_CLOSE_WEB_LISTEN_ADDRESS=:10060 tcp-close daemon The same
  curl http://127.0.0.1:10060/metrics                  Look at them
";

pub(super) const CHECK_EXAMPLES: &str = "\
Examples:
  tcp-close check                              Hook by hook; 1 if one of them cannot be had
  sudo tcp-close check                         The same with all that root may see
  tcp-close check -o json | jq '.hooks[]'      For a program
";

pub(super) const COMPLETIONS_EXAMPLES: &str = "\
Examples:
  tcp-close completions bash > /etc/bash_completion.d/tcp-close
  tcp-close completions zsh > /usr/local/share/zsh/site-functions/_tcp-close
  tcp-close completions fish > /etc/fish/completions/tcp-close.fish
";

pub(super) const MAN_EXAMPLES: &str = "\
Examples:
  tcp-close man | man -l -                     Read it
  tcp-close man ./man                          tcp-close.1, tcp-close-daemon.8 and the others
";

pub(super) const ENVIRONMENT: &str = "\
Every option may be given in the environment too; an empty variable counts as not given. TCP_CLOSE_LOG takes \
what is logged in detail, such as debug or tcp_close::http=trace.
";

pub(super) const EXIT_CODES: &str = "\
Exit codes: 0 done or interrupted, 1 a runtime error, 2 usage, 3 privilege missing or kernel unsupported.";
