//! What may be typed, and what is said to it: help, bad input, missing privilege.
//!
//! Nothing here needs privilege. Where it matters, it is taken away.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    thread,
};

use caps::{CapSet, Capability};
use clap::{CommandFactory as _, Parser as _};
use tcp_close::{
    cli::{Cli, Command as Typed},
    filter::{self, HostNames},
};

/// To bring it up to date: `TRYCMD=overwrite cargo test -p tcp-close-daemon --test cli`.
#[test]
fn help_and_usage_are_as_written_down() {
    trycmd::TestCases::new().case("tests/cli/*.trycmd");
}

/// As bash does when somebody types Tab.
#[test]
fn bash_completes_what_is_typed() {
    let script = run(tcp_close(&["completions", "bash"])).stdout;
    let script = String::from_utf8(script).expect("text");
    let complete = |words: &[&str]| {
        let typed: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
        let last = words.len() - 1;
        let (word, before) = (words[last], words[last - 1]);
        let ask = format!(
            "{script}\nCOMP_WORDS=({}); COMP_CWORD={last}; _tcp__close tcp-close '{word}' '{before}'; echo \"${{COMPREPLY[*]}}\"",
            typed.join(" ")
        );
        let mut bash = Command::new("bash");
        bash.args(["--norc", "-c", &ask]);
        let answer = run(bash);
        assert!(answer.status.success(), "{answer:?}");
        String::from_utf8(answer.stdout).expect("text").trim().to_owned()
    };
    assert_eq!(complete(&["tcp-close", "comp"]), "completions");
    assert_eq!(complete(&["tcp-close", "list", "--sor"]), "--sort");
    assert_eq!(complete(&["tcp-close", "list", "--sort", "a"]), "age");
    assert_eq!(complete(&["tcp-close", "completions", "fi"]), "fish");
}

#[test]
fn the_log_has_colors_where_they_are_wanted() {
    // It is said of a recording that it is cut off.
    let recordings = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recordings/6.12-x86-64-fentry");
    let whole = fs::read(recordings.join("orderly-the_client_closes_first-1.tcpclose")).expect("it is there");
    let cut = tempfile::NamedTempFile::new().expect("a file");
    fs::write(cut.path(), &whole[..whole.len() - 1]).expect("write");
    let log = |color: &str| {
        let mut replay = tcp_close(&["replay", "--color", color]);
        replay.arg(cut.path());
        run(replay).stderr
    };
    // It is a pipe.
    for (color, expected) in [("always", true), ("never", false), ("auto", false)] {
        let log = log(color);
        assert!(String::from_utf8_lossy(&log).contains("is cut off"), "{color}");
        assert_eq!(log.contains(&0x1b), expected, "{color}");
    }
}

#[test]
fn asking_for_help_is_no_mistake() {
    for arguments in [
        &["--help"][..],
        &["-h"],
        &["--version"],
        &["-V"],
        &["watch", "--help"],
        &["daemon", "-h"],
        &["check", "--help"],
    ] {
        let output = run(tcp_close(arguments));
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert!(output.stderr.is_empty() && !output.stdout.is_empty(), "{arguments:?}");
    }
}

#[test]
fn help_that_nobody_reads_is_no_mistake() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = tcp_close(&["watch", "--help"]);
    let output = run_with(&mut command, |command| command.stdout(writer));
    assert_eq!((output.status.code(), text(&output.stderr)), (Some(0), String::new()));
}

#[test]
fn every_command_has_examples_that_it_understands() {
    for command in Cli::command().get_subcommands() {
        let help = run(tcp_close(&[command.get_name(), "--help"]));
        let help = text(&help.stdout);
        let (_, examples) = help.split_once("Examples:\n").expect("there are examples");
        let examples: Vec<&str> = examples.lines().take_while(|line| !line.is_empty()).collect();
        assert!(examples.len() > 1, "{}", command.get_name());
        for example in examples.iter().filter_map(|line| line.split_once("tcp-close ")).map(|(_, rest)| rest)
        {
            let typed = one_command(example);
            let words = typed.split_whitespace().take_while(|word| word.is_ascii());
            let words: Vec<String> =
                words.take_while(|word| *word != "The").map(|word| word.replace('\'', "")).collect();
            let parsed =
                Cli::try_parse_from(["tcp-close"].into_iter().chain(words.iter().map(String::as_str)));
            let parsed = parsed.unwrap_or_else(|error| panic!("{typed}: {error}"));
            let filter = match parsed.command {
                Typed::Watch(args) => args.filter.filter,
                Typed::List(args) => args.filter.filter,
                _ => Vec::new(),
            };
            if let Err(error) = filter::parse(&filter.join(" "), &HostNames) {
                panic!("{typed}: {error}");
            }
        }
    }
}

/// What a shell would make one command of: up to the explanation, to a file, or to the next program.
fn one_command(example: &str) -> String {
    let mut is_quoted = false;
    let mut typed = String::new();
    for character in example.chars() {
        is_quoted ^= character == '\'';
        if !is_quoted && (matches!(character, '|' | '>') || character == ' ' && typed.ends_with(' ')) {
            break;
        }
        typed.push(character);
    }
    typed
}

#[test]
fn usage_errors_say_so_on_stderr_alone() {
    for arguments in [&["watch", "--nonsense"][..], &["watch", "-N", "nowhere"], &["check", "extra"]] {
        let output = run(tcp_close(arguments));
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(output.stdout.is_empty() && !output.stderr.is_empty(), "{arguments:?}");
    }
}

/// A variable is refused for the same reason as its flag.
#[test]
fn variables_are_read_as_their_flags_are() {
    let mut count = 0;
    for command in Cli::command().get_subcommands() {
        for argument in command.get_arguments().filter(|argument| argument.get_action().takes_values()) {
            let (Some(flag), Some(variable)) = (argument.get_long(), argument.get_env()) else {
                continue;
            };
            // A name or a path may be anything; nothing else takes this.
            if ["comm", "unit", "container", "socket"].contains(&flag) {
                continue;
            }
            let bad = "no/such/thing -1";
            let typed = run_unprivileged(tcp_close(&[command.get_name(), &format!("--{flag}={bad}")]));
            let mut in_environment = tcp_close(&[command.get_name()]);
            in_environment.env(variable, bad);
            let in_environment = run_unprivileged(in_environment);
            assert_eq!(typed.status.code(), Some(2), "{flag}: {}", text(&typed.stderr));
            assert_eq!(in_environment.status.code(), Some(2), "{variable:?}");
            assert_eq!(text(&typed.stderr), text(&in_environment.stderr), "{flag}");
            count += 1;
        }
    }
    assert!(count > 15, "only {count} flags were tried");
}

/// What is understood gets as far as the privilege it lacks.
#[test]
fn switches_may_be_set_by_variables() {
    for (variable, value, code) in [
        ("TCP_CLOSE_WIDE", "1", 3),
        ("TCP_CLOSE_NO_HEADER", "true", 3),
        ("TCP_CLOSE_NO_HEADER", "0", 3),
        ("TCP_CLOSE_IPV4", "yes", 3),
        // With -4.
        ("TCP_CLOSE_IPV6", "1", 2),
        ("TCP_CLOSE_IPV6", "0", 3),
        ("TCP_CLOSE_IPV6", "", 3),
        ("TCP_CLOSE_COUNT", "5", 3),
        ("TCP_CLOSE_COUNT", "0", 2),
        ("TCP_CLOSE_VERBOSE", "2", 3),
        ("TCP_CLOSE_VERBOSE", "Off", 3),
        ("TCP_CLOSE_VERBOSE", "loud", 2),
        ("TCP_CLOSE_NO_WITNESS", "1", 3),
        ("TCP_CLOSE_NO_WITNESS", "no", 3),
    ] {
        let mut command = tcp_close(&["watch", "-4"]);
        command.env(variable, value);
        let output = run_unprivileged(command);
        assert_eq!(output.status.code(), Some(code), "{variable}={value}: {}", text(&output.stderr));
    }
}

/// Files of variables, such as /etc/default/tcp-close, like to have every one in them.
#[test]
fn an_empty_variable_is_not_set() {
    // Others do what they are asked at once, or need to be told a file.
    let commands = ["watch", "list", "show", "ports", "daemon"];
    let is_asked = |command: &&clap::Command| commands.contains(&command.get_name());
    for command in Cli::command().get_subcommands().filter(is_asked) {
        let mut empty = tcp_close(&[command.get_name()]);
        for variable in command.get_arguments().filter_map(clap::Arg::get_env) {
            empty.env(variable, "");
        }
        let output = run_unprivileged(empty);
        let expected = match command.get_name() {
            // Everybody may look at the kernel's table.
            "list" | "ports" => 0,
            // There is no daemon that would remember any.
            "show" => 1,
            _ => 3,
        };
        assert_eq!(output.status.code(), Some(expected), "{}: {}", command.get_name(), text(&output.stderr));
    }
}

#[test]
fn a_flag_is_worth_more_than_its_variable() {
    let mut command = tcp_close(&["watch", "--count", "1"]);
    command.env("TCP_CLOSE_COUNT", "nonsense");
    let output = run_unprivileged(command);
    assert_eq!(output.status.code(), Some(3), "{}", text(&output.stderr));
}

#[test]
fn without_privilege_it_says_which_and_what_to_do() {
    for command in ["watch", "daemon"] {
        let output = run_unprivileged(tcp_close(&[command]));
        assert_eq!(output.status.code(), Some(3), "{command}");
        assert_eq!(text(&output.stdout), "", "{command}");
        assert_eq!(
            text(&output.stderr),
            format!(
                "tcp-close: {command} needs CAP_BPF and CAP_PERFMON in the initial user namespace: run it as root of the host, or give it these \
                 capabilities; `tcp-close check` says what each is for\n"
            )
        );
    }
}

#[test]
fn check_says_what_it_could_not_see() {
    let output = run_unprivileged(tcp_close(&["check"]));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "");
    let table = text(&output.stdout);
    for hook in ["witness", "minisock", "fin_retransmit", "reset_sent", "reset_received", "state_change"] {
        let line = table.lines().find(|line| line.starts_with(hook)).expect("each hook has a line");
        assert!(
            line.contains("unknown") && line.ends_with("not tried: needs CAP_BPF and CAP_PERFMON"),
            "{line}"
        );
    }
    for capability in ["CAP_BPF", "CAP_PERFMON", "CAP_SYSLOG"] {
        let line = table.lines().find(|line| line.starts_with(capability)).expect("each has a line");
        assert!(line.contains("no       missing"), "{line}");
    }
    assert!(!table.contains("panicked") && !table.contains("RUST_BACKTRACE"));
}

#[test]
fn check_is_one_object_in_json() {
    let output = run_unprivileged(tcp_close(&["check", "-o", "json"]));
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one object");
    assert_eq!(report["version"], env!("CARGO_PKG_VERSION"));
    for hook in report["hooks"].as_array().expect("a list") {
        assert!(hook["rung"].is_null() && hook["verdict"].is_null() && hook["lost"].is_null(), "{hook}");
    }
    let facts = report["facts"].as_array().expect("a list");
    let capability = facts.iter().find(|fact| fact["fact"] == "CAP_BPF").expect("it has a fact");
    assert_eq!(capability["ok"], false);
    let settings = report["settings"].as_array().expect("a list");
    let fin_timeout =
        settings.iter().find(|setting| setting["name"] == "tcp_fin_timeout").expect("it is there");
    assert!(fin_timeout["value"].is_string(), "{fin_timeout}");
    assert!(fin_timeout["does_not"].as_str().is_some_and(|text| text.contains("TIME-WAIT")), "{fin_timeout}");
    let limits = report["limits"].as_array().expect("a list");
    assert!(limits.iter().any(|limit| limit["limit"] == "tcp_max_tw_buckets" && limit["most"].is_u64()));
    assert!(report["advice"].is_array());
}

#[test]
fn check_has_no_quarrel_with_a_reader_that_went_away() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut command = tcp_close(&["check"]);
    let output = run_with(&mut command, |command| command.stdout(writer));
    assert!(text(&output.stderr).is_empty(), "{}", text(&output.stderr));
}

/// The program, with none of its variables set.
fn tcp_close(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tcp-close"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("TCP_CLOSE_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

fn run(mut command: Command) -> Output {
    command.output().expect("start the program")
}

fn run_with(command: &mut Command, change: impl FnOnce(&mut Command) -> &mut Command) -> Output {
    let child = change(command.stderr(Stdio::piped())).spawn().expect("start the program");
    child.wait_with_output().expect("wait for the program")
}

/// Runs it without any capability, whoever runs the test.
///
/// Root's program gets what the bounding set allows: for a thread that has emptied its own, that is nothing. A
/// user of no privilege may not touch it, and has nothing to lose.
fn run_unprivileged(command: Command) -> Output {
    let runner = thread::spawn(move || {
        if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP).expect("ask for capabilities") {
            for capability in caps::read(None, CapSet::Bounding).expect("ask for capabilities") {
                caps::drop(None, CapSet::Bounding, capability).expect("give a capability up");
            }
            caps::clear(None, CapSet::Inheritable).expect("give capabilities up");
        }
        run(command)
    });
    runner.join().expect("the program was run")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("it is text")
}
