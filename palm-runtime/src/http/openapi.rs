//! `/openapi.json`: the functions of a gateway's workers as an OpenAPI 3.1 document.

use std::fmt::Display;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};

use super::gateway::Gateway;
use super::media_type::PayloadType;
use super::problem::PROBLEM;
use super::request::{allows_get, has_path};
use crate::message::proto::Function;

/// Describes the functions that workers have registered so far.
pub(super) fn describe(gateway: &Gateway) -> Value {
    let component = gateway.0.component();
    let name = component.map_or("palm", |component| &component.name);
    let title = gateway.0.options.title.as_deref().unwrap_or(name);
    let has_tokens = !gateway.0.options.bearer_tokens.is_empty();
    let functions = component.map(|component| component.state.functions.functions());
    let functions = functions.iter().flat_map(|functions| functions.values());
    let functions = functions.filter(|function| has_path(function));
    let mut document = json!({
        "openapi": "3.1.0",
        "info": { "title": title, "version": env!("CARGO_PKG_VERSION") },
        "paths": functions
            .map(|function| (format!("/{}", encode(&function.name)), path(function, has_tokens)))
            .collect::<Map<_, _>>(),
        "components": {
            "schemas": { "Problem": problem_schema() },
        },
    });
    if has_tokens {
        document["components"]["securitySchemes"] =
            json!({ "token": { "type": "http", "scheme": "bearer" } });
        document["security"] = json!([{ "token": [] }]);
    }
    document
}

fn encode(name: &str) -> impl Display + '_ {
    const LEFT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-').remove(b'~');
    utf8_percent_encode(name, LEFT)
}

fn path(function: &Function, has_tokens: bool) -> Value {
    let mut path = Map::new();
    let post = operation(function, "post", has_tokens);
    path.insert("post".to_owned(), post);
    if allows_get(function) {
        let get = operation(function, "get", has_tokens);
        path.insert("get".to_owned(), get);
    }
    path.into()
}

fn operation(function: &Function, method: &str, has_tokens: bool) -> Value {
    let mut operation = json!({
        "operationId": format!("{method}_{}", function.name),
        "summary": function.doc,
        "description": format!("Takes `{}`, returns `{}`.", function.input, function.output),
        "responses": responses(function, has_tokens),
    });
    let input = PayloadType::from_input(function);
    if method == "post" && input != PayloadType::Nothing {
        operation["requestBody"] = json!({
            // Functions of text and bytes accept a request without a body.
            "required": !allows_get(function),
            "content": { input.media_type(): { "schema": schema(input) } },
        });
    }
    operation
}

fn responses(function: &Function, has_tokens: bool) -> Value {
    let output = PayloadType::from_output(function);
    let mut content = json!({ output.media_type(): { "schema": schema(output) } });
    if function.many {
        content["application/x-ndjson"] = json!({});
        content["text/event-stream"] = json!({});
    }
    let mut responses = json!({
        "200": { "description": "The result", "content": content },
        "204": { "description": "The function returned no result" },
    });
    let mut problems = vec![
        (
            "400",
            "The payload cannot be decoded as the function's argument",
        ),
        (
            "403",
            "The caller may not call the function, or the request came from a web page of another origin",
        ),
        ("404", "No worker has the function"),
        ("405", "The method is not allowed"),
        ("408", "The body was not received in time"),
        ("413", "The payload is too large"),
        (
            "415",
            "The payload is of another type than the function takes",
        ),
        ("429", "The component has reached a limit"),
        ("500", "The function failed"),
        ("503", "No worker is available"),
        ("504", "The deadline has passed"),
    ];
    if has_tokens {
        problems.push(("401", "The request has no known bearer token"));
    }
    for (status, description) in problems {
        responses[status] = json!({
            "description": description,
            "content": { PROBLEM: { "schema": { "$ref": "#/components/schemas/Problem" } } },
        });
    }
    responses
}

fn schema(content: PayloadType) -> Value {
    match content {
        PayloadType::Text => json!({ "type": "string" }),
        // The structure is known only to the function's type.
        PayloadType::Json => json!({}),
        PayloadType::MessagePack
        | PayloadType::Protobuf
        | PayloadType::Bytes
        | PayloadType::Nothing => {
            json!({ "type": "string", "format": "binary" })
        }
    }
}

fn problem_schema() -> Value {
    json!({
        "type": "object",
        "description": "RFC 9457",
        "required": ["title", "status", "detail"],
        "properties": {
            "title": { "type": "string" },
            "status": { "type": "integer" },
            "detail": { "type": "string" },
            "kind": { "type": "string" },
            "component": { "type": "string" },
            "function": { "type": "string" },
            "step": { "type": "integer" },
            "functions": { "type": "array", "items": { "type": "string" } },
            "request_id": { "type": "string" },
        },
    })
}
