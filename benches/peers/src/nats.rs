//! NATS core: request and reply, with a queue group of services.

use async_nats::Client;
use bytes::Bytes;
use futures_util::StreamExt as _;

use crate::{Call, print_line};

const SUBJECT: &str = "server.foo";

impl Call for Client {
    async fn call(&self, payload: Bytes) -> Bytes {
        let answer = self.request(SUBJECT, payload).await;
        answer.expect("the service answers").payload
    }
}

pub(crate) async fn connect(url: &str) -> Client {
    async_nats::connect(url).await.expect("the server runs")
}

pub(crate) async fn serve(url: &str) {
    let client = connect(url).await;
    let group = "workers".to_owned();
    let mut requests = client
        .queue_subscribe(SUBJECT, group)
        .await
        .expect("it subscribes");
    client.flush().await.expect("the server answers");
    print_line("ready");
    while let Some(request) = requests.next().await {
        let reply = request
            .reply
            .expect("a request has a subject for its reply");
        client
            .publish(reply, request.payload)
            .await
            .expect("the client is connected");
    }
}
