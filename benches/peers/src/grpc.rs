//! gRPC by tonic: unary calls over one connection. What the code generator of tonic would write is written by hand, so
//! that no `protoc` is needed.

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::codegen::{Body, BoxFuture, StdError, http};
use tonic::server::UnaryService;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;

use crate::{Call, print_line};

#[derive(Clone, PartialEq, prost::Message)]
struct Payload {
    #[prost(bytes = "bytes", tag = "1")]
    content: Bytes,
}

#[derive(Clone)]
struct Foo;

impl tonic::server::NamedService for Foo {
    const NAME: &'static str = "palm.bench.Server";
}

impl UnaryService<Payload> for Foo {
    type Response = Payload;
    type Future = BoxFuture<Response<Payload>, Status>;

    fn call(&mut self, request: Request<Payload>) -> Self::Future {
        Box::pin(async move { Ok(Response::new(request.into_inner())) })
    }
}

impl<B> tonic::codegen::Service<http::Request<B>> for Foo
where
    B: Body + Send + 'static,
    B::Error: Into<StdError> + Send + 'static,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = std::convert::Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(
        &mut self,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(ProstCodec::<Payload, Payload>::default());
            Ok(grpc.unary(Foo, request).await)
        })
    }
}

pub(crate) async fn serve() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("it binds");
    let address = listener.local_addr().expect("it is bound");
    print_line(&format!("http://{address}"));
    Server::builder()
        .tcp_nodelay(true)
        .add_service(Foo)
        .serve_with_incoming(TcpListenerStream::new(listener))
        .await
        .expect("it serves");
}

pub(crate) async fn connect(address: &str) -> Channel {
    let endpoint = Endpoint::from_shared(address.to_owned()).expect("it is an address");
    endpoint
        .tcp_nodelay(true)
        .connect()
        .await
        .expect("the server runs")
}

impl Call for Channel {
    async fn call(&self, content: Bytes) -> Bytes {
        let mut client = tonic::client::Grpc::new(self.clone());
        client.ready().await.expect("the server runs");
        let path = http::uri::PathAndQuery::from_static("/palm.bench.Server/Foo");
        let codec = ProstCodec::<Payload, Payload>::default();
        let answer = client
            .unary(Request::new(Payload { content }), path, codec)
            .await;
        answer.expect("the server answers").into_inner().content
    }
}
