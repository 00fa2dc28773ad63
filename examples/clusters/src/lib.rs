//! Each program of `palm init` as a module: a change of palm that breaks one of them breaks this build.

#![allow(
    dead_code,
    missing_docs,
    reason = "each module is a program with a `main`"
)]

#[path = "../../../palm-cli/clusters/01_server/src"]
mod s01_server {
    #[path = "main.rs"]
    mod components;
}

#[path = "../../../palm-cli/clusters/02_parallel/src"]
mod s02_parallel {
    #[path = "main.rs"]
    mod components;
}

#[path = "../../../palm-cli/clusters/03_cache/src"]
mod s03_cache {
    #[path = "main.rs"]
    mod components;
}

#[path = "../../../palm-cli/clusters/04_scatter/src"]
mod s04_scatter {
    #[path = "main.rs"]
    mod components;
}

#[path = "../../../palm-cli/clusters/05_gather/src"]
mod s05_gather {
    #[path = "main.rs"]
    mod components;
}

#[path = "../../../palm-cli/clusters/06_pipeline/src"]
mod s06_pipeline {
    #[path = "main.rs"]
    mod components;
}

#[path = "../../../palm-cli/clusters/07_tee/src"]
mod s07_tee {
    #[path = "main.rs"]
    mod components;
}

#[path = "../../../palm-cli/clusters/08_stream_control/src"]
mod s08_stream_control {
    #[path = "main.rs"]
    mod components;
}

#[path = "../../../palm-cli/clusters/09_sink/src"]
mod s09_sink {
    #[path = "main.rs"]
    mod components;
}

#[path = "../../../palm-cli/clusters/10_master_pipeline/src"]
mod s10_master_pipeline {
    #[path = "main.rs"]
    mod components;
}

#[path = "../../../palm-cli/clusters/11_hub/src"]
mod s11_hub {
    #[path = "main.rs"]
    mod components;
}

#[path = "../../../palm-cli/clusters/12_components/src"]
mod s12_components {
    #[path = "main.rs"]
    mod components;
    #[path = "bin/master.rs"]
    mod master;
}

#[path = "../../../palm-cli/clusters/13_http_gateway/src"]
mod s13_http_gateway {
    #[path = "bin/client.rs"]
    mod client;
    #[path = "main.rs"]
    mod components;
    #[path = "bin/master.rs"]
    mod master;
}

#[path = "../../../palm-cli/clusters/14_http_worker/src"]
mod s14_http_worker {
    #[path = "bin/master.rs"]
    mod master;
    #[path = "bin/web_worker.rs"]
    mod web_worker;
}

#[path = "../../../palm-cli/clusters/shared"]
mod shared {
    #[path = "cache_client.rs"]
    mod cache_client;
    #[path = "client.rs"]
    mod client;
}
