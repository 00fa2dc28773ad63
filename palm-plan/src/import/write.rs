//! The text of the imported file.

use toml_edit::Value;

use super::{Service, Sockets, kind};
use crate::kind::Kind;

/// Returns the text of a file with these services.
pub(super) fn file(name: &str, services: &[Service], sockets: &Sockets) -> String {
    let mut text = format!("#:schema ./cluster.schema.json\nname = {}\n", quoted(name));
    for service in services {
        text.push('\n');
        text.push_str(&component(service, services, sockets));
    }
    text
}

fn component(service: &Service, services: &[Service], sockets: &Sockets) -> String {
    let kind = kind(service, sockets);
    let mut text = format!(
        "# {}\n[components.{}]\nkind = \"{kind}\"",
        comment(&service.name),
        service.key
    );
    text += match kind {
        Kind::Process => {
            "  # is it a component of palm? Then write its kind, and its addresses as placeholders\n"
        }
        _ => "\n",
    };
    if let Some((_, name)) = service
        .flags
        .iter()
        .find(|(flag, value)| flag == "--name" && !value.starts_with('_'))
    {
        if kind.binds() {
            text += &format!("name = {}\n", quoted(name));
        }
    } else if kind.is_entry_point() {
        text += "# name = \"..\": the name that clients call, if the program states another one than the key\n";
    }
    let keys = service
        .connected
        .iter()
        .filter_map(|name| services.iter().find(|other| other.name == *name));
    let keys: Vec<_> = keys.map(|other| other.key.as_str()).collect();
    text += &match (kind, &keys[..]) {
        (Kind::Worker, [master, ..]) => format!("master = {}\n", quoted(master)),
        (Kind::Worker, []) => "# master = \"KEY\": the file did not say which one\n".to_owned(),
        (Kind::Process, [_, ..]) => format!("after = {}\n", list(&keys)),
        (_, [only]) => format!("from = {}\n", quoted(only)),
        (_, [_, _, ..]) => format!("from = {}\n", list(&keys)),
        (_, []) => String::new(),
    };
    let (command, script) = service
        .script
        .split_first()
        .map_or(("", &[][..]), |(first, rest)| (first, rest));
    text += &format!("command = {}\n", quoted(&braces(command)));
    let args = args(service, script, sockets);
    if !args.is_empty() {
        text += &format!("args = {}\n", list(&args));
    }
    let has_replicas = !kind.binds() && service.replicas != 1;
    if has_replicas {
        text += &format!("replicas = {}\n", service.replicas);
    } else if service.replicas > 1 {
        text += &format!(
            "# {} replicas: what binds an address has one instance\n",
            service.replicas
        );
    }
    text
}

/// Returns the arguments: those of the script, and the flags with placeholders for sockets.
fn args(service: &Service, script: &[String], sockets: &Sockets) -> Vec<String> {
    let mut args: Vec<_> = script.iter().map(|word| braces(word)).collect();
    for (flag, value) in &service.flags {
        args.push(braces(flag));
        match sockets.get(value) {
            Some((key, Some(endpoint))) if *key == service.key => {
                args.push(format!("{{{endpoint}}}"))
            }
            Some((key, Some(endpoint))) => args.push(format!("{{{key}.{endpoint}}}")),
            // The first flag with the socket does not say which address it is.
            Some((key, None)) => args.push(format!("{{{key}.db}}")),
            None => args.extend(value.split_whitespace().map(braces)),
        }
    }
    args
}

fn braces(text: &str) -> String {
    text.replace('{', "{{").replace('}', "}}")
}

/// Returns a text for a comment of one line.
fn comment(text: &str) -> String {
    text.chars().filter(|it| !it.is_control()).collect()
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn list<T: AsRef<str>>(texts: &[T]) -> String {
    let texts: Vec<_> = texts.iter().map(|text| quoted(text.as_ref())).collect();
    format!("[{}]", texts.join(", "))
}
