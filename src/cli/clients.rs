//! `ams2 client list|show|forget`: the clients that check in at a running router.

use bytes::Bytes;
use clap::ValueEnum;
use hyper::Method;

use super::{
    CliError, Exit,
    args::{ClientStanding, Server},
    client::Client,
    operate::{listed, percent, shown, table},
    say, talk,
};
use crate::console::views;

pub(super) async fn list(
    state: Option<ClientStanding>,
    limit: Option<usize>,
    json: bool,
    server: &Server,
) -> Result<Exit, CliError> {
    let client = Client::new(server)?;
    let state = state.and_then(|state| Some(format!("state={}", state.to_possible_value()?.get_name())));
    let limit = limit.map(|limit| format!("limit={limit}"));
    let parameters: Vec<String> = state.into_iter().chain(limit).collect();
    let path = format!("/api/v1/clients?{}", parameters.join("&"));
    if json {
        let rows: serde_json::Value = listed(&client, &path).await?;
        say(serde_json::to_string_pretty(&rows).expect("JSON encodes"));
        return Ok(Exit::Done);
    }
    let mut rows: Vec<views::Client> = listed(&client, &path).await?;
    // Those with something wrong first.
    let rank = |row: &views::Client| match row.state.as_str() {
        "missing" => 0,
        "late" => 1,
        _ => 2,
    };
    rows.sort_by(|a, b| (rank(a), &a.name).cmp(&(rank(b), &b.name)));
    table(
        &[
            "NAME",
            "STATE",
            "HEARD",
            "ADDRESS",
            "VERSION",
            "CONFIG",
            "WAITING",
            "HELD BACK",
            "DELAYED",
            "DROPPED",
        ],
        rows.into_iter().map(|row| {
            let [waiting, held_back, delayed, dropped] =
                [row.waiting, row.held_back, row.delayed, row.dropped].map(|count| count.to_string());
            let known = [row.name, row.state, row.heard, row.address, row.version, row.config];
            known.into_iter().chain([waiting, held_back, delayed, dropped]).collect()
        }),
    );
    Ok(Exit::Done)
}

pub(super) async fn show(name: &str, json: bool, server: &Server) -> Result<Exit, CliError> {
    let path = path_of(name);
    let client = Client::new(server)?;
    if json {
        let row: serde_json::Value = client.fetch(&path).await?;
        say(serde_json::to_string_pretty(&row).expect("JSON encodes"));
        return Ok(Exit::Done);
    }
    let row: views::Client = client.fetch(&path).await?;
    let due = if row.state == "missing" { "leaves the list" } else { "missing from" };
    let ahead = row.ahead_ms.map_or_else(|| "not said".into(), |ms| format!("{ms} ms ahead"));
    for (what, value) in [
        ("name", row.name),
        ("state", row.state),
        ("heard", row.heard),
        (due, row.due),
        ("enrolled", row.enrolled),
        ("address", row.address),
        ("version", row.version),
        ("config", row.config),
        ("incarnation", format!("{:016x}", row.incarnation)),
        ("clock", ahead),
        ("waiting", row.waiting.to_string()),
        ("held back", row.held_back.to_string()),
        ("delayed", row.delayed.to_string()),
        ("dropped", row.dropped.to_string()),
        ("comes from", row.comes_from.unwrap_or_else(|| "-".into())),
        ("alert", row.alert),
    ] {
        say(format_args!("{what:<16} {}", shown(&value)));
    }
    Ok(Exit::Done)
}

pub(super) async fn forget(name: &str, server: &Server) -> Result<Exit, CliError> {
    let client = Client::new(server)?;
    let answer = client.call(Method::DELETE, &path_of(name), "application/json", Bytes::new()).await?;
    answer.accepted()?;
    talk(format_args!("{} is in the list no more", shown(name)));
    Ok(Exit::Done)
}

/// Where one is; the slashes of its name, too, are a part of it.
fn path_of(name: &str) -> String {
    format!("/api/v1/clients/{}", percent(name))
}
