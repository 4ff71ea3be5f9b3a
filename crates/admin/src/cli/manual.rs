//! `docs/admin.md`, made from the declarations of verbs and flags.

use clap::{Arg, Command, CommandFactory};

use super::AdminCommand;

const INTRODUCTION: &str = "\
# Administration

Made by `apogeemq admin markdown` from the declarations of the verbs; do not edit.

    apogeemq admin [-n HOST:PORT[;HOST:PORT]] VERB [FLAGS]

The verbs and flags are those of Apache's `mqadmin` 5.5.0, short and long, and work on clusters of either kind. It starts in
milliseconds and needs only the program.

* **Name servers:** `-n`, else the variable `NAMESRV_ADDR`, else `127.0.0.1:9876`. Changes of name servers are made at each of them.
* **Output:** tables; `--output json` writes one JSON document per line, with times in epoch milliseconds, for programs. Verbs that print
  many messages write one line for each.
* **Exit code:** 0 success; 1 failed or partly failed, with the reason and advice on standard error; 2 wrong flags. A change at
  several servers is tried at each; the result has the outcome of each.
* **Times** are `now`, epoch milliseconds or `yyyy-MM-dd#HH:mm:ss:SSS` in local time.
* **Time-out:** `--timeout SECONDS` for each answer, 5 by default.
* **TLS:** `--tls`, and `--tls-config FILE` for certificates ([tls.md](tls.md)).

Intended differences from `mqadmin`: `topicRoute` prints a table, with and without `-l`; `getConsumerConfig` does not create the
group it is asked for; `resetOffsetByTime` accepts offset 0, too; `cloneGroupOffset` changes the given topic only; `consumerStatus` and the
message queries print what they find instead of writing files below the working directory and `/tmp`; `-mf` works (mqadmin lists it and does not read it); `-b` and `-c` exclude each other.
There are no verbs for broker containers, RocksDB, cold data and access control.
";

/// The manual.
pub fn markdown() -> String {
    let command = AdminCommand::command();
    let mut text = INTRODUCTION.to_owned();
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        text.push_str(&section(verb));
    }
    text
}

fn section(verb: &Command) -> String {
    let about = verb.get_about().map(ToString::to_string).unwrap_or_default();
    let mut text = format!("\n## {}\n\n{about}.\n", verb.get_name());
    let flags: Vec<_> = verb.get_arguments().filter(|arg| !arg.is_hide_set()).map(row).collect();
    if !flags.is_empty() {
        text.push_str("\n| Flag | Value | Meaning |\n|---|---|---|\n");
        text.extend(flags);
    }
    text
}

fn row(arg: &Arg) -> String {
    let short = arg.get_short().map(|short| format!("`-{short}`"));
    let long = arg.get_long().map(|long| format!("`--{long}`"));
    let names: Vec<_> = [short, long].into_iter().flatten().collect();
    let takes_value = arg.get_action().takes_values();
    let value = arg.get_value_names().filter(|_| takes_value).and_then(|names| names.first());
    let defaults: Vec<_> = arg.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
    let mut meaning = arg.get_help().map(ToString::to_string).unwrap_or_default();
    if takes_value && !defaults.is_empty() {
        meaning.push_str(&format!(" [default: {}]", defaults.join(",")));
    }
    if arg.is_required_set() {
        meaning.push_str(" (required)");
    }
    let cell = |text: &str| text.replace('|', "\\|");
    format!(
        "| {} | {} | {} |\n",
        names.join(" "),
        value.map_or_else(String::new, |value| cell(value.as_str())),
        cell(&meaning)
    )
}
