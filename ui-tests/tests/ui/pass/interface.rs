//! Interfaces and their implementations, in modules whose names shadow those of palm.

#![deny(warnings)]
#![allow(dead_code, unreachable_pub)]

mod shared {
    use palm::{Bytes, Context};

    /// Makes images smaller.
    #[palm::interface(name = "images")]
    pub trait Images: Send + Sync + 'static {
        /// A small image.
        async fn thumbnail(&self, image: Vec<u8>) -> Result<Vec<u8>, String>;
        /// Its size.
        fn size(&self, image: Bytes, context: Context) -> Option<String>;
        fn forget(&mut self);
        /// Its parts.
        fn tiles(&self, image: Vec<u8>) -> impl Iterator<Item = Vec<u8>> + Send;
        #[cfg(any())]
        fn absent(&self, image: Absent) -> Absent;
        fn r#type(&self) -> &'static str;
    }
}

mod hostile {
    struct Client;
    struct Bytes;
    struct Eval;
    #[allow(non_camel_case_types)]
    struct palm;

    #[::palm::interface(name = "hostile")]
    trait Hostile {
        async fn option(&self, vec: ::std::string::String) -> ::std::string::String;
    }
}

mod component {
    use palm::prelude::*;

    use super::shared::Images;

    pub(crate) struct Resizer<T> {
        pub(crate) scale: T,
    }

    #[palm::worker]
    impl<T> Images for Resizer<T>
    where
        T: Send + Sync + 'static,
    {
        async fn thumbnail(&self, image: Vec<u8>) -> Result<Vec<u8>, String> {
            Ok(image)
        }

        #[palm::method(blocking)]
        fn size(&self, image: Bytes, _: Context) -> Option<String> {
            Some(image.len().to_string())
        }

        fn forget(&mut self) {}

        fn tiles(&self, image: Vec<u8>) -> impl Iterator<Item = Vec<u8>> + Send {
            image.into_iter().map(|byte| vec![byte])
        }

        #[cfg(any())]
        fn absent(&self, image: Absent) -> Absent {
            image
        }

        fn r#type(&self) -> &'static str {
            "png"
        }
    }

    pub(crate) struct Server;

    #[palm::server(name = "other")]
    impl Images for Server {
        async fn thumbnail(&self, image: Vec<u8>) -> Result<Vec<u8>, String> {
            Ok(image)
        }

        fn size(&self, _: Bytes, _: Context) -> Option<String> {
            None
        }

        fn forget(&mut self) {}

        fn tiles(&self, _: Vec<u8>) -> impl Iterator<Item = Vec<u8>> + Send {
            std::iter::empty()
        }

        fn r#type(&self) -> &'static str {
            "jpeg"
        }
    }
}

async fn call(client: palm::Client) -> palm::Result<()> {
    use futures_core::Stream;
    use shared::ImagesClient;

    fn assert_stream(_: impl Stream<Item = Result<Vec<u8>, palm::CallError>>) {}

    let images = ImagesClient::new(client).on("other");
    let _: Vec<u8> = images
        .thumbnail(vec![1])
        .timeout(std::time::Duration::from_secs(1))
        .await?;
    let _: String = images.size("an image").await?;
    let _: String = images.r#type().await?;
    images.forget().await?;
    assert_stream(images.tiles(&[1, 2]).expect_answers(2));
    Ok(())
}

fn main() {
    assert_eq!(
        component::Resizer::<u8>::THUMBNAIL.to_string(),
        "images.thumbnail"
    );
    assert_eq!(component::Server::THUMBNAIL.to_string(), "other.thumbnail");
    assert_eq!(shared::ImagesClient::TYPE.to_string(), "images.type");
}
