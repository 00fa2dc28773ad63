//! An HTTP worker that runs in AWS Lambda, behind a function URL or an HTTP API.
//!
//! ```text
//! cargo lambda build --release -p lambda
//! cargo lambda deploy lambda --enable-function-url
//! ```
//!
//! The master needs an `HttpConnection` to the URL, and the feature `tls`; see `examples/http_worker.rs`.

use palm::prelude::*;

struct Resizer;

#[palm::http_worker(server = "images")]
impl Resizer {
    /// Makes a thumbnail.
    #[palm::method]
    fn thumbnail(&self, image: Vec<u8>) -> Vec<u8> {
        image.into_iter().step_by(2).collect()
    }
}

#[tokio::main]
async fn main() -> Result<(), lambda_http::Error> {
    lambda_http::run(Resizer.into_service()).await
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use lambda_http::request::from_str;
    use palm::Message;
    use serde_json::json;
    use tower::ServiceExt as _;

    use super::*;

    /// The event is one of an HTTP API, with a message as its body.
    #[tokio::test]
    async fn lambda_event_is_answered_with_the_result() {
        let message = Message::new("images.thumbnail", "abcd").encode();
        let event = json!({
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": "/",
            "rawQueryString": "",
            "headers": { "content-type": "application/octet-stream" },
            "requestContext": {
                "http": {
                    "method": "POST",
                    "path": "/",
                    "protocol": "HTTP/1.1",
                    "sourceIp": "127.0.0.1",
                    "userAgent": "palm",
                },
                "requestId": "id",
                "routeKey": "$default",
                "stage": "$default",
                "timeEpoch": 0,
            },
            "body": STANDARD.encode(message),
            "isBase64Encoded": true,
        });
        let request = from_str(&event.to_string()).expect("the event is valid");
        let response = Resizer.into_service().oneshot(request).await;
        let response = response.expect("the worker is infallible");
        assert_eq!(response.status(), 200);
        let body = axum::body::to_bytes(axum::body::Body::new(response.into_body()), 1024).await;
        let answer =
            Message::decode(body.expect("the body is short")).expect("the body is a message");
        assert_eq!(answer.payload(), "ac");
    }
}
